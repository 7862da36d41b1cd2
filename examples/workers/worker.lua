-- A worker on a pipe: posta up --worker 'lua5.4 worker.lua'
-- It needs lua-cjson.
local json = require("cjson")

io.stdout:setvbuf("line")

local function say(line)
  print(json.encode(line))
end

say({ id = "w", op = "work", actions = { "greet" } })
for line in io.lines() do
  local push = json.decode(line)
  if push.status == "running" then
    local payload = push.payload
    if type(payload) == "table" and type(payload.name) == "string" then
      say({ op = "done", lease = push.lease, data = "hello " .. payload.name })
    else
      say({ op = "fail", lease = push.lease, error = "there is no name", retry = false })
    end
  end
end
