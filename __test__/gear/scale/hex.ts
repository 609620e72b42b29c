// Bytes as hex digits, which may be set apart by spaces; `(…)*n` stands for n times what is in parentheses.

export function fromHex(text: string): Uint8Array {
  const digits = text
    .replace(/\(([0-9a-f]*)\)\*(\d+)/g, (_, each: string, times: string) => each.repeat(Number(times)))
    .replaceAll(' ', '');
  if (!/^([0-9a-f]{2})*$/.test(digits)) throw new Error(`not hex: ${text}`);
  return new Uint8Array(Buffer.from(digits, 'hex'));
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
