export { createLogger } from './logger.ts';
export type { LoggerOptions } from './logger.ts';
export { recordSpans } from './spans.ts';
export type { RecordedSpan, RecordedTrace } from './spans.ts';
export { medianPhases, phasesOf, waterfall } from './waterfall.ts';
export type { Phase } from './waterfall.ts';
