import type { ListMetricDescriptorsRequest__Output } from '../../../proto/generated/runtime/runtime/v1/ListMetricDescriptorsRequest.ts';
import type { ListMetricDescriptorsResponse } from '../../../proto/generated/runtime/runtime/v1/ListMetricDescriptorsResponse.ts';
import type { Rpc } from '../unary.ts';
import { metricDescriptors } from './metrics/messages.ts';

export function listMetricDescriptors(): Rpc<ListMetricDescriptorsRequest__Output, ListMetricDescriptorsResponse> {
  return () => ({ descriptors: metricDescriptors() });
}
