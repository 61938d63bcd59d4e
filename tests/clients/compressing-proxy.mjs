// A proxy that compresses responses, as many Express programs and the development servers of web frameworks do. Prints
// its address: node compressing-proxy.mjs http://127.0.0.1:8080
import http from 'node:http';
import compression from 'compression';
import express from 'express';

const [, target] = process.argv;
const app = express();
app.use(compression({ threshold: 0 }));
app.use((request, response) => {
    const { method, url: path, headers } = request;
    const upstream = http.request(new URL(path, target), { method, headers: { ...headers, host: new URL(target).host } }, answer => {
        response.writeHead(answer.statusCode, answer.headers);
        answer.pipe(response);
        response.on('close', () => answer.destroy());
    });
    request.pipe(upstream);
});
const server = app.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));
