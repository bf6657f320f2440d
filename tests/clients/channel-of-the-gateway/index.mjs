// OpenClaw's command line knows a channel only by a plugin of its own, and asks the gateway to send only where that says so. This
// is as much of one as it takes.

const channel = {
  id: "webhook",
  meta: { id: "webhook", label: "Webhook", selectionLabel: "Webhook", blurb: "A channel that the gateway has." },
  capabilities: { chatTypes: ["direct"] },
  config: {
    listAccountIds: () => ["default"],
    resolveAccount: () => ({ accountId: "default", enabled: true }),
    inspectAccount: () => ({ enabled: true, configured: true }),
    isConfigured: () => true,
  },
  messaging: {
    normalizeTarget: (target) => target,
    targetResolver: { looksLikeId: () => true, hint: "any place" },
  },
  outbound: { deliveryMode: "gateway" },
  actions: {
    describeMessageTool: () => ({ actions: ["send"] }),
    supportsAction: ({ action }) => action === "send",
    resolveExecutionMode: () => "gateway",
    handleAction: () => {
      throw new Error("the gateway was not asked");
    },
  },
};

export default {
  id: "channel-of-the-gateway",
  register: (api) => api.registerChannel({ plugin: channel }),
};
