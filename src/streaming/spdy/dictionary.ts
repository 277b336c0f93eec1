/** What SPDY/3 header blocks are compressed with (draft-mbelshe-httpbis-spdy-00, 2.6.10.1). */

/** Each stands in the dictionary behind its length as 32 bits. */
const LENGTH_AND_WORD =
  'options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow ' +
  'authorization cache-control connection content-base content-encoding content-language content-length ' +
  'content-location content-md5 content-range content-type date etag expect expires from host if-match ' +
  'if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma ' +
  'proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade ' +
  'user-agent vary via warning www-authenticate method get status';

/** What follows those as plain text; some words have their length after them, too. */
const PARTS: readonly (string | { readonly counted: string })[] = [
  { counted: '200 OK' },
  { counted: 'version' },
  { counted: 'HTTP/1.1' },
  { counted: 'url' },
  { counted: 'public' },
  { counted: 'set-cookie' },
  { counted: 'keep-alive' },
  { counted: 'origin' },
  '100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505',
  '203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized',
  '403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable',
  'Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT',
  'chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,',
  'publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.',
];

export const HEADER_DICTIONARY: Buffer = Buffer.concat([
  ...LENGTH_AND_WORD.split(' ').map(counted),
  ...PARTS.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : counted(part.counted))),
]);

/** Adler-32 of the dictionary; zlib names it by that. */
export const HEADER_DICTIONARY_ID = 0xe3c6a7c2;

function counted(word: string): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(word.length);
  return Buffer.concat([length, Buffer.from(word, 'latin1')]);
}
