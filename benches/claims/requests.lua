-- Sends the requests that a file lists, one in a line, in turn: method, path and maybe a token.
-- The second of two threads begins half-way, so that they do not ask for the same at the same time.
local requests, turn = {}, 0
local threads = 0

function setup(thread)
    thread:set("number", threads)
    threads = threads + 1
end

function init(args)
    for line in io.lines(args[1]) do
        local method, path, token = line:match("^(%S+) (%S+) ?(%S*)$")
        local headers = {}
        if token ~= "" then
            headers["Authorization"] = "Bearer " .. token
        end
        requests[#requests + 1] = wrk.format(method, path, headers)
    end
    turn = math.floor(#requests / 2) * number
end

function request()
    turn = turn % #requests + 1
    return requests[turn]
end
