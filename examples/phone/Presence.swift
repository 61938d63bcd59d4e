import Foundation

/// Why the service refused a call. `status` is 0 if there was no answer.
struct PresenceProblem: Error {
    var status = 0
    var type = ""
    var detail = ""
    var retryAfter = 0.0
}

/// Keeps one user online while the app is in the foreground, and reads which other users are online.
actor Presence {
    private let service: String, user: String, connectionId: String
    private let getToken: @Sendable () async throws -> String
    private var token: String?
    private var pings: Task<Void, Never>?

    /// `connectionId` is made once for each installation, and kept.
    init(service: String, userId: String, connectionId: String, getToken: @escaping @Sendable () async throws -> String) {
        self.service = service
        self.user = "users/" + userId.addingPercentEncoding(withAllowedCharacters: .alphanumerics)!
        self.connectionId = connectionId
        self.getToken = getToken
    }

    /// The app comes to the foreground (`scenePhase` is `.active`).
    func enterForeground(onProblem: @escaping @Sendable (PresenceProblem) -> Void) {
        pings?.cancel()
        pings = Task { await stayOnline(onProblem) }
    }

    /// The app goes to the background. Call it within `beginBackgroundTask`, which grants it some seconds.
    func enterBackground() async {
        pings?.cancel()
        // If the call fails, the user is offline when the TTL ends. A return within ten seconds is no departure.
        _ = try? await call("\(user)/disconnect", ["connectionId": connectionId, "graceMs": 10_000])
    }

    /// Closes the connections of the user on all devices.
    func signOut() async throws {
        pings?.cancel()
        _ = try await call("\(user)/disconnect", ["all": true])
    }

    private func stayOnline(_ onProblem: (PresenceProblem) -> Void) async {
        var verb = "connect", failures = 0.0
        while !Task.isCancelled {
            var wait = 0.0
            do {
                let answer = try await call("\(user)/\(verb)", ["connectionId": connectionId])
                (verb, failures) = ("ping", 0)
                wait = (answer["pingIntervalMs"] as? Double ?? 25_000) / 1000 * .random(in: 0.9...1)
            } catch let problem as PresenceProblem where [400, 403].contains(problem.status) {
                return onProblem(problem)  // A mistake in the program: another attempt is pointless.
            } catch {
                let problem = error as? PresenceProblem ?? PresenceProblem()
                if problem.type.hasSuffix(":connection-closed") {
                    verb = "connect"
                } else {
                    failures += 1
                    wait = max(problem.retryAfter, .random(in: 0...min(30, pow(2, failures - 1))))
                }
            }
            try? await Task.sleep(nanoseconds: UInt64(wait * 1e9))
        }
    }

    /// The events about some users as JSON, after `cursor` or with a snapshot. Waits up to 20 seconds for an event.
    func events(about userIds: [String], after cursor: String?) async throws -> (items: [[String: Any]], cursor: String) {
        let body: [String: Any] = ["userIds": userIds, "snapshot": true, "waitMs": cursor == nil ? 0 : 20_000]
        let answer = try await call("events", body, cursor: cursor)
        return (answer["events"] as? [[String: Any]] ?? [], answer["cursor"] as? String ?? "")
    }

    private func call(_ path: String, _ body: [String: Any], cursor: String? = nil) async throws -> [String: Any] {
        let timeout = path == "events" ? 30.0 : 10.0
        var request = URLRequest(url: URL(string: "\(service)/v1/\(path)")!, timeoutInterval: timeout)
        request.httpMethod = "POST"
        request.httpBody = try JSONSerialization.data(withJSONObject: body)
        request.setValue("application/json", forHTTPHeaderField: "Content-Type")
        request.setValue("application/json", forHTTPHeaderField: "Accept")
        request.setValue(cursor, forHTTPHeaderField: "Last-Event-ID")
        for isLast in [false, true] {
            if token == nil { token = try await getToken() }
            request.setValue("Bearer \(token!)", forHTTPHeaderField: "Authorization")
            let (data, response) = try await URLSession.shared.data(for: request)
            let answer = (try? JSONSerialization.jsonObject(with: data)) as? [String: Any] ?? [:]
            let http = response as! HTTPURLResponse
            if http.statusCode == 200 { return answer }
            if http.statusCode == 401 { token = nil }  // One fresh token.
            if http.statusCode == 401 && !isLast { continue }
            throw PresenceProblem(
                status: http.statusCode, type: answer["type"] as? String ?? "", detail: answer["detail"] as? String ?? "",
                retryAfter: Double(http.value(forHTTPHeaderField: "Retry-After") ?? "") ?? 0)
        }
        throw PresenceProblem()
    }
}
