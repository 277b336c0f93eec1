/** Caisson's own service, for what CRI v1 lacks: proto/extensions/v1. */
import type { ExtensionsHandlers } from '../../../proto/generated/extensions/caisson/v1/Extensions.ts';
import type { Logger } from '../../lib/logger.ts';
import type { CriServices } from '../options.ts';
import { unary } from '../unary.ts';
import { startPodSandbox } from './start-pod-sandbox.ts';
import { pausePod } from './pause-pod.ts';
import { resumePod } from './resume-pod.ts';
import { pauseContainer } from './pause-container.ts';
import { unpauseContainer } from './unpause-container.ts';

export function extensions(services: CriServices, log: Logger): ExtensionsHandlers {
  return {
    StartPodSandbox: unary('change', log, startPodSandbox(services)),
    PausePod: unary('change', log, pausePod(services)),
    ResumePod: unary('change', log, resumePod(services)),
    PauseContainer: unary('change', log, pauseContainer(services)),
    UnpauseContainer: unary('change', log, unpauseContainer(services)),
  };
}
