import { readlink } from 'node:fs/promises';

/** The kubelet writes ConfigMaps, Secrets and tokens into a new directory and then points this link at it. */
export const DATA_LINK = '..data';

/** What the link leads to, if the directory has one as the kubelet makes it. */
export async function dataLink(directory: string): Promise<string | undefined> {
  const target = await readlink(`${directory}/${DATA_LINK}`).catch(() => undefined); // none, or something else
  return target !== undefined && /^\.\.[^/]+$/.test(target) ? target : undefined;
}
