-- Sends the requests in the files that are named behind `--`, in turn, and ends with one line of JSON.
local requests, turn = {}, 0

function init(files)
  for number, path in ipairs(files) do
    local file = assert(io.open(path, "rb"))
    requests[number] = file:read("*a")
    file:close()
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  local form = '\n{"requests": %d, "seconds": %f, "failed": %d, "p50_ms": %f, "p99_ms": %f}\n'
  local p50, p99 = latency:percentile(50) / 1e3, latency:percentile(99) / 1e3 -- from microseconds
  io.write(form:format(summary.requests, summary.duration / 1e6, failed, p50, p99))
end
