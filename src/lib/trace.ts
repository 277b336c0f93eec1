import { SpanStatusCode, trace } from '@opentelemetry/api';
import type { Attributes, Span, Tracer } from '@opentelemetry/api';

/** Does nothing until somebody records: src/telemetry, or an OpenTelemetry SDK. */
const tracer = (): Tracer => trace.getTracer('caisson');

/** A phase: a span around `work`, below the phase that is under way. */
export function traced<T>(name: string, work: () => Promise<T>): Promise<T> {
  return tracer().startActiveSpan(name, (span) => through(span, work));
}

/** A phase below nothing: of an RPC, or of work in the background that the phase under way does not wait for. */
export function tracedApart<T>(name: string, attributes: Attributes, work: () => Promise<T>): Promise<T> {
  return tracer().startActiveSpan(name, { root: true, attributes }, (span) => through(span, work));
}

/** As `traced`, for what the process stands still for. */
export function tracedSync<T>(name: string, work: () => T): T {
  const span = tracer().startSpan(name);
  try {
    return work();
  } finally {
    span.end();
  }
}

/** Says what the phase under way is about. */
export function annotate(attributes: Attributes): void {
  trace.getActiveSpan()?.setAttributes(attributes);
}

async function through<T>(span: Span, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    span.setStatus({ code: SpanStatusCode.ERROR });
    throw error;
  } finally {
    span.end();
  }
}
