// Reads shapes written in a few words, such as `{ key: str, updatedAt?: int|null, tags: [str], channels: { [id]: {…} } }`,
// as JSON Schema. An object is closed: what it does not name must not be in it.

const SIMPLE = {
  str: { type: "string" },
  int: { type: "integer" },
  num: { type: "number" },
  bool: { type: "boolean" },
  null: { type: "null" },
  any: {},
};

/** The schema of a shape. */
export function shape(text) {
  const words = text.match(/\{…\}|\[…\]|\[\w+\]:|[\w$.-]+\??:|[\w]+|[[\]{},|]/g);
  let at = 0;
  const take = (word) => {
    if (words[at] !== word) throw new Error(`${word} is missing before ${words.slice(at, at + 3).join(" ")} in ${text}`);
    at += 1;
  };

  const either = () => {
    const ways = [one()];
    while (words[at] === "|") {
      at += 1;
      ways.push(one());
    }
    return ways.length === 1 ? ways[0] : { anyOf: ways };
  };

  const one = () => {
    const word = words[at];
    at += 1;
    if (word === "{…}") return { type: "object" };
    if (word === "[…]") return { type: "array" };
    if (word === "{") return object();
    if (word === "[") {
      const items = either();
      take("]");
      return { type: "array", items };
    }
    if (!SIMPLE[word]) throw new Error(`${word} is no type in ${text}`);
    return SIMPLE[word];
  };

  const object = () => {
    const found = { type: "object", properties: {}, required: [], additionalProperties: false };
    while (words[at] !== "}") {
      const name = words[at].slice(0, -1);
      at += 1;
      const value = either();
      if (name.startsWith("[")) found.additionalProperties = value;
      else {
        found.properties[name.replace(/\?$/, "")] = value;
        if (!name.endsWith("?")) found.required.push(name);
      }
      if (words[at] === ",") at += 1;
    }
    take("}");
    return found;
  };

  const whole = either();
  if (at !== words.length) throw new Error(`${words[at]} is too much in ${text}`);
  return whole;
}
