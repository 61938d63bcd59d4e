-- Sends the requests that a file lists, one in a line, in turn: method, path, and maybe a token or the JSON of a body.
-- The second of two threads begins half-way, so that they do not ask for the same at the same time.
local requests, turn = {}, 0
local threads = 0

function setup(thread)
    thread:set("number", threads)
    threads = threads + 1
end

function init(args)
    for line in io.lines(args[1]) do
        local method, path, extra = line:match("^(%S+) (%S+) ?(%S*)$")
        local headers, body = {}, nil
        if extra:sub(1, 1) == "{" then
            body = extra
        elseif extra ~= "" then
            headers["Authorization"] = "Bearer " .. extra
        end
        requests[#requests + 1] = wrk.format(method, path, headers, body)
    end
    turn = math.floor(#requests / 2) * number
end

function request()
    turn = turn % #requests + 1
    return requests[turn]
end
