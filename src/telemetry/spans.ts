/** A recorder of spans for this process: whole traces, as soon as their root span ends. */
import { randomBytes } from 'node:crypto';
import { context, INVALID_SPAN_CONTEXT, SpanStatusCode, trace, TraceFlags } from '@opentelemetry/api';
import type { Attributes, AttributeValue, Context, Span, SpanContext, SpanOptions, Tracer } from '@opentelemetry/api';
import { AsyncContext } from './async-context.ts';

/** Times are `ms` since the start of the process. */
export interface RecordedSpan {
  readonly id: string;
  /** none: the root */
  readonly parentId: string | undefined;
  readonly name: string;
  readonly startMs: number;
  /** undefined: it was still under way when the root ended */
  readonly endMs: number | undefined;
  readonly failed: boolean;
  readonly attributes: Attributes;
}

/** In the order in which they began: the root comes first. */
export type RecordedTrace = readonly [RecordedSpan, ...RecordedSpan[]];

/** More of one trace are not recorded. */
const MAX_SPANS = 5000;

/** From now on, until disposal; there can be one recorder in a process. */
export function recordSpans(onTrace: (recorded: RecordedTrace) => void): Disposable {
  const tracer = new Recorder(onTrace);
  trace.setGlobalTracerProvider({ getTracer: () => tracer });
  context.setGlobalContextManager(new AsyncContext());
  return {
    [Symbol.dispose]: () => {
      trace.disable();
      context.disable();
    },
  };
}

class Recorder implements Tracer {
  readonly #onTrace: (recorded: RecordedTrace) => void;

  constructor(onTrace: (recorded: RecordedTrace) => void) {
    this.#onTrace = onTrace;
  }

  startSpan(name: string, options: SpanOptions = {}, parentContext: Context = context.active()): Span {
    const active = options.root ? undefined : trace.getSpan(parentContext);
    const parent = active instanceof LiveSpan && !active.family.over ? active : undefined;
    // what goes on behind an answer, or belongs to nothing that was asked for, is no trace of its own
    if (!parent && !options.root) return trace.wrapSpanContext(INVALID_SPAN_CONTEXT);
    const family = parent?.family ?? new Family(this.#onTrace);
    const span = new LiveSpan(name, family, parent?.id);
    if (options.attributes) span.setAttributes(options.attributes);
    family.add(span);
    return span;
  }

  startActiveSpan<Work extends (span: Span) => ReturnType<Work>>(
    name: string,
    ...rest: [Work] | [SpanOptions, Work] | [SpanOptions, Context, Work]
  ): ReturnType<Work> {
    const work = rest[rest.length - 1] as Work;
    const options = rest.length > 1 ? (rest[0] as SpanOptions) : {};
    const parentContext = rest.length > 2 ? (rest[1] as Context) : context.active();
    const span = this.startSpan(name, options, parentContext);
    return context.with(trace.setSpan(parentContext, span), () => work(span));
  }
}

/** The spans of one trace. */
class Family {
  readonly id = randomBytes(16).toString('hex');
  over = false;
  readonly #spans: LiveSpan[] = [];
  readonly #onTrace: (recorded: RecordedTrace) => void;

  constructor(onTrace: (recorded: RecordedTrace) => void) {
    this.#onTrace = onTrace;
  }

  add(span: LiveSpan): void {
    if (this.#spans.length < MAX_SPANS) this.#spans.push(span);
  }

  ended(span: LiveSpan): void {
    const [root, ...others] = this.#spans;
    if (this.over || span !== root) return;
    this.over = true;
    this.#onTrace([root.recorded(), ...others.map((other) => other.recorded())]);
  }
}

class LiveSpan implements Span {
  readonly id = randomBytes(8).toString('hex');
  readonly family: Family;
  readonly #parentId: string | undefined;
  readonly #startMs = performance.now();
  readonly #attributes: Attributes = {};
  #name: string;
  #endMs: number | undefined;
  #failed = false;

  constructor(name: string, family: Family, parentId: string | undefined) {
    this.#name = name;
    this.family = family;
    this.#parentId = parentId;
  }

  recorded(): RecordedSpan {
    return {
      id: this.id,
      parentId: this.#parentId,
      name: this.#name,
      startMs: this.#startMs,
      endMs: this.#endMs,
      failed: this.#failed,
      attributes: { ...this.#attributes },
    };
  }

  spanContext(): SpanContext {
    return { traceId: this.family.id, spanId: this.id, traceFlags: TraceFlags.SAMPLED };
  }

  setAttribute(key: string, value: AttributeValue): this {
    this.#attributes[key] = value;
    return this;
  }

  setAttributes(attributes: Attributes): this {
    Object.assign(this.#attributes, attributes);
    return this;
  }

  setStatus({ code }: { readonly code: SpanStatusCode }): this {
    this.#failed = code === SpanStatusCode.ERROR;
    return this;
  }

  updateName(name: string): this {
    this.#name = name;
    return this;
  }

  end(): void {
    if (this.#endMs !== undefined) return;
    this.#endMs = performance.now();
    this.family.ended(this);
  }

  isRecording(): boolean {
    return this.#endMs === undefined;
  }

  /** Events, links and exceptions say nothing about where time goes. */
  addEvent(): this {
    return this;
  }

  addLink(): this {
    return this;
  }

  addLinks(): this {
    return this;
  }

  recordException(): void {
    this.#failed = true;
  }
}
