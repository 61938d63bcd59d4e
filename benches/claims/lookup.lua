-- Posts the JSON of a file over and over.
function init(args)
    local file = assert(io.open(args[1]))
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/json"
    wrk.body = file:read("*a")
    file:close()
    request_once = wrk.format()
end

function request()
    return request_once
end
