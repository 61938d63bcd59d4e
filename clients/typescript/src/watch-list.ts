import type { WatchList } from './types.js';

const isEverybody = ({ userIds, groupIds }: WatchList): boolean => !userIds && !groupIds;

const ids = (lists: WatchList[], kind: keyof WatchList): string[] | undefined => {
  const all = new Set(lists.flatMap((list) => list[kind] ?? []));
  return all.size ? [...all] : undefined;
};

/** The list of everything that the lists name. `undefined` if they name no user and no group. */
export const union = (lists: WatchList[]): WatchList | undefined => {
  if (lists.some(isEverybody)) return {};
  const list = { userIds: ids(lists, 'userIds'), groupIds: ids(lists, 'groupIds') };
  return isEverybody(list as WatchList) ? undefined : (list as WatchList);
};

/** The sets of lists that were compared: hundreds of watches are compared with the list of the stream at each event. */
const sets = new WeakMap<readonly string[], Set<string>>();

const isWithin = (part: readonly string[] = [], whole: readonly string[] = []): boolean => {
  const all = sets.get(whole) ?? new Set(whole);
  sets.set(whole, all);
  return part.every((id) => all.has(id));
};

/** Whether a stream of `whole` carries everything about `part`. */
export const covers = (whole: WatchList, part: WatchList): boolean =>
  isEverybody(whole) ||
  (!isEverybody(part) && isWithin(part.userIds, whole.userIds) && isWithin(part.groupIds, whole.groupIds));
