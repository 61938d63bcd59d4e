-- Sends the requests that a file lists, one in a line, in turn: method, path and maybe a token.
local requests, turn = {}, 0

function init(args)
    for line in io.lines(args[1]) do
        local method, path, token = line:match("^(%S+) (%S+) ?(%S*)$")
        local headers = {}
        if token ~= "" then
            headers["Authorization"] = "Bearer " .. token
        end
        requests[#requests + 1] = wrk.format(method, path, headers)
    end
    turn = math.random(#requests)
end

function request()
    turn = turn % #requests + 1
    return requests[turn]
end
