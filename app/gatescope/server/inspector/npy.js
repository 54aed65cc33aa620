// NumPy's .npy files (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).

import { ReadingError } from "./reading.js";

const KINDS = {
  f4: ["getFloat32", 4], f8: ["getFloat64", 8],
  i1: ["getInt8", 1], i2: ["getInt16", 2], i4: ["getInt32", 4], i8: ["getBigInt64", 8],
  u1: ["getUint8", 1], u2: ["getUint16", 2], u4: ["getUint32", 4], u8: ["getBigUint64", 8],
};

/**
 * @param {ArrayBuffer} buffer
 * @returns {any[]} nested lists of numbers
 */
export function readNpy(buffer) {
  const bytes = new Uint8Array(buffer);
  const view = new DataView(buffer);
  if (bytes[0] !== 0x93 || new TextDecoder("latin1").decode(bytes.subarray(1, 6)) !== "NUMPY") throw new ReadingError("This is no .npy file.");
  const [start, size] = bytes[6] === 1 ? [10, view.getUint16(8, true)] : [12, view.getUint32(8, true)];
  const header = new TextDecoder("latin1").decode(bytes.subarray(start, start + size));
  const [, order, kind] = /'descr':\s*'([<>|=])(\w\d)'/.exec(header) ?? [];
  if (!KINDS[kind]) throw new ReadingError(`The .npy file holds ${/'descr':\s*([^,]+)/.exec(header)?.[1] ?? "something else"}; plain numbers are wanted here.`);
  const shape = /'shape':\s*\(([^)]*)\)/.exec(header)[1].split(",").filter((part) => part.trim()).map(Number);
  const [read, width] = KINDS[kind];
  const at = (index) => Number(view[read](start + size + index * width, order !== ">"));
  return nested(shape, strides(shape, header.includes("'fortran_order': True")), at);
}

function strides(shape, fortran) {
  const sizes = (axes) => axes.reduce((product, length) => product * length, 1);
  return shape.map((_, axis) => sizes(fortran ? shape.slice(0, axis) : shape.slice(axis + 1)));
}

function nested([length, ...shape], [stride, ...rest], at, offset = 0) {
  return Array.from({ length }, (_, index) => (shape.length ? nested(shape, rest, at, offset + index * stride) : at(offset + index * stride)));
}
