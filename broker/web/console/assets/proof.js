// Checks by itself, with WebCrypto, that an event is in the log that the pinned key signs, and that this log only grew
// since this browser looked last. Trees and proofs: RFC 9162, 2.1. Checkpoints and keys: C2SP signed notes.

const bytes = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
const base64 = (data) => btoa(String.fromCharCode(...data));
const same = (one, other) => base64(one) === base64(other);

function require(holds, sentence) {
  if (!holds) throw new Error(sentence);
}

async function hash(prefix, ...parts) {
  const whole = new Uint8Array(await new Blob([Uint8Array.of(prefix), ...parts]).arrayBuffer());
  return new Uint8Array(await crypto.subtle.digest("SHA-256", whole));
}

export const leafHash = (leaf) => hash(0, leaf);
const nodeHash = (left, right) => hash(1, left, right);

/** Answer the root that a path leads to from a leaf. */
export async function rootOf(index, size, leaf, path) {
  let [at, last, root] = [BigInt(index), BigInt(size) - 1n, leaf];
  require(0n <= at && at <= last, "the event is not below the size of the tree");
  for (const neighbour of path) {
    require(last > 0n, "the path is too long");
    if (at & 1n || at === last) {
      root = await nodeHash(neighbour, root);
      while (at !== 0n && !(at & 1n)) [at, last] = [at >> 1n, last >> 1n];
    } else {
      root = await nodeHash(root, neighbour);
    }
    [at, last] = [at >> 1n, last >> 1n];
  }
  require(last === 0n, "the path is too short");
  return root;
}

/** Check that the tree of `second` leaves continues that of `first`. */
export async function checkConsistency(first, second, oldRoot, newRoot, path) {
  if (first === second) {
    require(path.length === 0 && same(oldRoot, newRoot), "two trees of one size differ");
    return;
  }
  if (first === 0) return;
  require(first < second, "the log has become shorter");
  let [at, last] = [BigInt(first) - 1n, BigInt(second) - 1n];
  const hashes = (at + 1n) & at ? [...path] : [oldRoot, ...path];
  require(hashes.length > 0, "the path is too short");
  while (at & 1n) [at, last] = [at >> 1n, last >> 1n];
  let [was, is] = [hashes[0], hashes[0]];
  for (const neighbour of hashes.slice(1)) {
    require(last > 0n, "the path is too long");
    if (at & 1n || at === last) {
      [was, is] = [await nodeHash(neighbour, was), await nodeHash(neighbour, is)];
      while (at !== 0n && !(at & 1n)) [at, last] = [at >> 1n, last >> 1n];
    } else {
      is = await nodeHash(is, neighbour);
    }
    [at, last] = [at >> 1n, last >> 1n];
  }
  require(last === 0n, "the path is too short");
  require(same(was, oldRoot) && same(is, newRoot), "the log was rewritten since this browser looked last");
}

/** Answer size and root of a checkpoint, once the signature of the key `name+hash+key` holds. */
export async function open(note, verifier) {
  const match = /^([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+=*)$/.exec(verifier);
  require(match, "the key is not of the form name+hash+key");
  const [, name, , encoded] = match;
  const key = bytes(encoded);
  require(key.length === 33 && key[0] === 1, "the key is not one of Ed25519");
  const end = note.lastIndexOf("\n\n");
  require(end > 0, "the checkpoint is not a signed note");
  const text = new TextEncoder().encode(note.slice(0, end + 1));
  const line = note.slice(end + 2).split("\n").find((each) => each.startsWith(`— ${name} `));
  require(line, `no signature by the key of ${name}`);
  const signature = bytes(line.split(" ").pop()).slice(4);
  const publicKey = await crypto.subtle.importKey("raw", key.slice(1), "Ed25519", false, ["verify"]);
  require(await crypto.subtle.verify("Ed25519", publicKey, signature, text), "the signature does not hold");
  const [origin, size, root] = note.split("\n");
  require(origin === name, "the checkpoint is of another log");
  return { origin, size: Number(size), root: bytes(root) };
}

async function continues(seen, checkpoint) {
  const [from, to] = [Math.min(seen.size, checkpoint.size), Math.max(seen.size, checkpoint.size)];
  const answer = await fetch(`/console/consistency?from=${from}&to=${to}`);
  require(answer.ok, "the service gives no proof of consistency");
  const path = (await answer.json()).hashes.map(bytes);
  const [older, newer] = seen.size <= checkpoint.size ? [bytes(seen.root), checkpoint.root] : [checkpoint.root, bytes(seen.root)];
  await checkConsistency(from, to, older, newer, path);
}

/**
 * Check the evidence of a page, and say every step.
 *
 * @param evidence index, leaf, checkpoint, size and hashes of an event; bytes are base64
 * @param verifier the key that the reviewer trusts; kept in `memory` once all holds
 * @param memory where the key and the newest checkpoint are kept between visits
 * @param say told every step that holds
 */
export async function verify(evidence, verifier, memory, say) {
  const leaf = await leafHash(bytes(evidence.leaf));
  say(`These bytes of event ${evidence.index} have the leaf hash ${base64(leaf)}.`);
  const checkpoint = await open(evidence.checkpoint, verifier);
  say(`The key ${verifier.split("+").slice(0, 2).join("+")} signed a tree of ${checkpoint.size} events with the root ${base64(checkpoint.root)}.`);
  require(checkpoint.size === evidence.size, "the proof is for another checkpoint");
  const path = evidence.hashes.map(bytes);
  const root = await rootOf(evidence.index, checkpoint.size, leaf, path);
  require(same(root, checkpoint.root), "the path leads to another root: this event is not in the log");
  say(`From the leaf, ${path.length} hashes lead to that root: ${path.map((each) => base64(each).slice(0, 8)).join(" → ") || "it is the root itself"}.`);
  const place = `checkpoint of ${checkpoint.origin}`;
  const seen = JSON.parse(memory.getItem(place) ?? "null");
  if (seen) {
    await continues(seen, checkpoint);
    say(`The log only grew since this browser saw ${seen.size} events of it.`);
  } else {
    say("This browser had not seen this log before; from now on it holds the log to this checkpoint.");
  }
  if (!seen || seen.size < checkpoint.size) {
    memory.setItem(place, JSON.stringify({ size: checkpoint.size, root: base64(checkpoint.root) }));
  }
  memory.setItem("verifier", verifier);
}
