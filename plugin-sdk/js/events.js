/**
 * Gateway events. Needs `events` in the world and the event's name in the manifest's `permissions.events`.
 * @module
 */
import host from 'leanclaw:plugin/events@0.1.0';
import { failing } from './failure.js';

/**
 * @param {string} name Without the plugin's id; clients see `<plugin id>.<name>`.
 * @param {unknown} payload
 */
export const emit = (name, payload) => failing(() => host.emit(name, JSON.stringify(payload ?? null)));
