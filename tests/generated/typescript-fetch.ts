// The client of OpenAPI Generator.
import { Configuration, OnlineApi, ProblemFromJSON, ProblemTypeEnum, ResponseError, UsersApi } from './generated';
import { base, key, tour } from './tour';

const configuration = new Configuration({ basePath: base, accessToken: key });
const users = new UsersApi(configuration);
const online = new OnlineApi(configuration);

void tour({
  connect: (userId, connectionId) => users.connect({ userId, connectBody: connectionId ? { connectionId } : undefined }),
  ping: (userId, connectionId) => users.ping({ userId, connectBody: { connectionId } }),
  disconnect: (userId, connectionId) => users.disconnect({ userId, disconnectBody: { connectionId } }),
  disconnectAll: (userId) => users.disconnect({ userId, disconnectBody: { all: true } }),
  user: (userId) => users.getUser({ userId }),
  lookUp: (userIds) => online.lookUpOnline({ lookupBody: { userIds } }),
  list: (limit) => online.listOnline({ limit }),
  count: () => online.countOnline(),
  refusal: async (cursor) => {
    const refused = await online.listOnline({ cursor }).catch((error: unknown) => error);
    if (!(refused instanceof ResponseError)) throw new Error(`not refused: ${String(refused)}`);
    const problem = ProblemFromJSON(await refused.response.json());
    if (problem.type !== ProblemTypeEnum.InvalidCursor) throw new Error(problem.detail);
    return problem;
  },
});
