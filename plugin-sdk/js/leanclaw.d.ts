/** The host's interfaces as QuickJS sees them; the kit's modules give them types. */
declare module 'leanclaw:plugin/*' {
  const host: any;
  export default host;
}
