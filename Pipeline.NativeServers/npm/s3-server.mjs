// fauxqs (S3 and SQS) with its state on disk: node s3-server.mjs PORT [DATA_DIRECTORY]
// Its own command line keeps everything in memory and listens on all interfaces.
import net from 'node:net';
import path from 'node:path';
import { startFauxqs } from 'fauxqs';

const [port, dataDirectory] = process.argv.slice(2);

// fauxqs names 0.0.0.0 in its code; what this project starts is for this machine alone.
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (options, ...rest) {
  return listen.call(this, { ...options, host: '127.0.0.1' }, ...rest);
};

const server = await startFauxqs({
  port: Number(port),
  logger: false,
  ...(dataDirectory && { dataDir: path.join(dataDirectory, 'sqs'), s3StorageDir: path.join(dataDirectory, 's3') }),
});
console.log(`S3 and SQS listen on http://127.0.0.1:${server.port}`);
