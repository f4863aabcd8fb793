// Requests pages from a service with only its .proto file; prints the results as one JSON object.
//
//     node client.js PROTO_FOLDER TARGET SILENT_TARGET USER SESSION_SALE

const grpc = require("@grpc/grpc-js");
const { loadSync } = require("@grpc/proto-loader");

const [protos, target, silentTarget, user, sessionSale] = process.argv.slice(2);
const options = { includeDirs: [protos], keepCase: true, longs: Number, enums: String, defaults: true };
const { recommendations } = grpc.loadPackageDefinition(
  loadSync("recommendations/v1/recommendations.proto", options)
);
const clients = [];

function connect(address) {
  const client = new recommendations.v1.Recommendations(address, grpc.credentials.createInsecure());
  clients.push(client);
  return client;
}

function call(client, method, request, milliseconds) {
  const deadline = new Date(Date.now() + milliseconds);
  return new Promise((resolve) => {
    client[method](request, { deadline }, (error, response) =>
      resolve(error ? { code: grpc.status[error.code], details: error.details } : response)
    );
  });
}

async function main() {
  const client = connect(target);
  const page = (request) => call(client, "GetTopSales", request, 10000);
  const plain = await page({ user_id: user, n: 5 });
  const session = await page({ user_id: user, n: 5, session_sale_ids: [sessionSale], explain: true });
  const event = {
    user_id: user,
    sale_id: sessionSale,
    kind: "EVENT_KIND_VISIT",
    attribution_token: plain.request_id,
  };
  const recorded = await call(client, "RecordEvents", { events: [event] }, 10000);
  const after = await page({ user_id: user, n: 5 });
  const refused = await page({ user_id: user, n: 101 });
  const late = await call(connect(silentTarget), "GetTopSales", { user_id: user }, 100);
  console.log(JSON.stringify({ plain, session, recorded, after, refused, late }));
  clients.forEach((each) => each.close());
}

main();
