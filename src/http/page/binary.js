// Reads slots.bin and heat.bin. Little-endian, as they are and as every browser's machine is.

const SLOTS = 16384;

function begin(buffer, magic) {
  const view = new DataView(buffer);
  const found = String.fromCharCode(...new Uint8Array(buffer, 0, 4));
  if (found !== magic) throw new Error(`expected ${magic}, but it begins with ${JSON.stringify(found)}`);
  return view;
}

/** Owner, load, keys, bytes and last move of each slot. */
export function readSlots(buffer) {
  const view = begin(buffer, "BSL1");
  const length = view.getUint32(4, true);
  const at = 24 + length;
  if (buffer.byteLength < at + SLOTS * 18) throw new Error("slots.bin is cut short");
  const column = (Kind, from) => new Kind(buffer, from, SLOTS);
  return {
    takenAt: Number(view.getBigUint64(8, true)),
    generation: Number(view.getBigUint64(16, true)),
    nodes: JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 24, length))),
    owners: column(Uint16Array, at),
    cpu: column(Float32Array, at + SLOTS * 2),
    keys: column(Float32Array, at + SLOTS * 6),
    bytes: column(Float32Array, at + SLOTS * 10),
    movedAt: column(Uint32Array, at + SLOTS * 14),
  };
}

/** Load by rows of slots and columns of time. */
export function readHeat(buffer) {
  const view = begin(buffer, "BHT1");
  const [rows, columns, seconds] = [4, 8, 12].map((at) => view.getUint32(at, true));
  if (buffer.byteLength < 32 + rows * columns) throw new Error("heat.bin is cut short");
  const [least, most] = [view.getFloat32(24, true), view.getFloat32(28, true)];
  return {
    rows, columns, seconds, least, most,
    startAt: Number(view.getBigUint64(16, true)),
    levels: new Uint8Array(buffer, 32, rows * columns),
    value(column, row) {
      const level = this.levels[column * rows + row];
      return level === 0 ? NaN : least * (most / least) ** ((level - 1) / 254);
    },
  };
}

/** The slot of a key, as servers count it: CRC16 (XMODEM) of what stands in the first braces, or of all. */
export function slotOf(key) {
  const open = key.indexOf("{");
  const close = open < 0 ? -1 : key.indexOf("}", open + 1);
  const part = close > open + 1 ? key.slice(open + 1, close) : key;
  let crc = 0;
  for (const byte of new TextEncoder().encode(part)) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : (crc << 1) & 0xffff;
  }
  return crc % SLOTS;
}
