/**
 * The plugin's validated settings. Needs `settings` in the world; the manifest's `configSchema` says what they hold.
 * @module
 */
import host from 'leanclaw:plugin/settings@0.1.0';

/** Call it in a handler, not at the top of a module: that code runs when the component is built. @returns {any} */
export const get = () => JSON.parse(host.get());
