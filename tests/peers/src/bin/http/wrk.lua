-- Requests with the cookies of sessions, in random order: of the file whose name follows the URL, one a line.

local requests = {}

function init(arguments)
  for cookies in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format(nil, nil, { Cookie = cookies })
  end
  math.randomseed(os.time())
end

function request()
  return requests[math.random(#requests)]
end
