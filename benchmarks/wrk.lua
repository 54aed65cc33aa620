-- Sends the requests in the files that are named behind `--`, in turn, and ends with one line of JSON.
-- Where `statuses` stands among them, it counts the answers by status, which costs some speed.
local requests, turn, threads = {}, 0, {}

function setup(thread)
  table.insert(threads, thread)
end

local function count(status)
  if status == 200 then answered = answered + 1 elseif status == 429 then refused = refused + 1 end
end

function init(files)
  answered, refused = 0, 0
  for _, path in ipairs(files) do
    if path == "statuses" then
      response = count
    else
      local file = assert(io.open(path, "rb"))
      requests[#requests + 1] = file:read("*a")
      file:close()
    end
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  local lost = errors.connect + errors.read + errors.write + errors.timeout
  local form = '\n{"requests": %d, "seconds": %f, "failed": %d, "lost": %d, "answered": %d, "refused": %d, '
    .. '"p50_ms": %f, "p99_ms": %f}\n'
  local answered, refused = 0, 0
  for _, thread in ipairs(threads) do
    answered, refused = answered + thread:get("answered"), refused + thread:get("refused")
  end
  local p50, p99 = latency:percentile(50) / 1e3, latency:percentile(99) / 1e3 -- from microseconds
  io.write(form:format(summary.requests, summary.duration / 1e6, failed, lost, answered, refused, p50, p99))
end
