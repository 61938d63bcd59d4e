import type { WatchList } from './types.js';

const isEverybody = ({ userIds, groupIds }: WatchList): boolean => !userIds && !groupIds;

const ids = (lists: WatchList[], kind: keyof WatchList): string[] | undefined => {
  const all = new Set(lists.flatMap((list) => list[kind] ?? []));
  return all.size ? [...all] : undefined;
};

/** The list of everything that the lists name. `undefined` if they name nobody. */
export const union = (lists: WatchList[]): WatchList | undefined => {
  if (lists.some(isEverybody)) return {};
  const list = { userIds: ids(lists, 'userIds'), groupIds: ids(lists, 'groupIds') };
  return isEverybody(list as WatchList) ? undefined : (list as WatchList);
};

const isWithin = (part: readonly string[] = [], whole: readonly string[] = []): boolean => {
  const all = new Set(whole);
  return part.every((id) => all.has(id));
};

/** Whether a stream of `whole` carries everything about `part`. */
export const covers = (whole: WatchList, part: WatchList): boolean =>
  isEverybody(whole) ||
  (!isEverybody(part) && isWithin(part.userIds, whole.userIds) && isWithin(part.groupIds, whole.groupIds));
