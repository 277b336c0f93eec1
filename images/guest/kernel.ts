import { zstdDecompressSync } from 'node:zlib';
import { CaissonError } from '../../src/lib/errors.ts';

// Offsets in the setup header: Linux Documentation/arch/x86/boot.rst.
const SETUP_SECTORS = 0x1f1;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const ZSTD_MAGIC = 0xfd2fb528;

/**
 * The uncompressed ELF kernel inside a bzImage. QEMU starts it through its PVH entry, which saves the guest the
 * decompression and the firmware's work.
 */
export function extractKernel(bzImage: Buffer): Buffer {
  const start = (bzImage.readUInt8(SETUP_SECTORS) + 1) * 512 + bzImage.readUInt32LE(PAYLOAD_OFFSET);
  // the build appends the uncompressed size, which is not part of the zstd frame
  const payload = bzImage.subarray(start, start + bzImage.readUInt32LE(PAYLOAD_LENGTH) - 4);
  if (payload.readUInt32LE(0) !== ZSTD_MAGIC) {
    throw new CaissonError('internal', 'the guest kernel is not compressed with zstd as Debian 13 does it');
  }
  return zstdDecompressSync(payload, { maxOutputLength: 256 * 1024 * 1024 });
}
