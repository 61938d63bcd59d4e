/** Sets a timer instead of the one before, or only ends the one before if there is no `run`. */
export type Timer = (ms?: number, run?: () => void) => void;

export const createTimer = (): Timer => {
  let id: ReturnType<typeof setTimeout> | undefined;
  return (ms, run) => {
    clearTimeout(id);
    if (run) id = setTimeout(run, ms);
  };
};

/** Up to a tenth sooner, so that pages that were opened together do not call together. */
export const jitter = (ms: number): number => ms * (1 - Math.random() / 10);

/** A time from nothing to one second, doubled with each failure after the first, up to `longest` (full jitter). */
export const backOff = (failures: number, longest = 30_000): number =>
  Math.random() * Math.min(longest, 500 * 2 ** failures);
