import java.net.*
import kotlin.math.min
import kotlin.math.pow
import kotlin.random.Random
import kotlinx.coroutines.*
import org.json.*

/** Why the service refused a call. */
class PresenceProblem(val status: Int, val type: String, detail: String, val retryAfter: Double) : Exception(detail)

/**
 * Keeps one user online while the app is in the foreground, and reads which other users are online. [connectionId] is
 * made once for each installation, and kept.
 */
class Presence(
    private val service: String,
    userId: String,
    private val connectionId: String,
    private val scope: CoroutineScope,
    private val getToken: suspend () -> String,
) {
    private val user = "users/" + URLEncoder.encode(userId, "UTF-8").replace("+", "%20")
    private var token: String? = null
    private var pings: Job? = null

    /** The app comes to the foreground: `onStart` of `ProcessLifecycleOwner`. */
    fun enterForeground(onProblem: (PresenceProblem) -> Unit) {
        pings?.cancel()
        pings = scope.launch { stayOnline(onProblem) }
    }

    /** The app goes to the background: `onStop`. */
    suspend fun enterBackground() {
        pings?.cancel()
        // If the call fails, the user is offline when the TTL ends. A return within ten seconds is no departure.
        runCatching { call("$user/disconnect", connection().put("graceMs", 10_000)) }
    }

    /** Closes the connections of the user on all devices. */
    suspend fun signOut() {
        pings?.cancel()
        call("$user/disconnect", JSONObject().put("all", true))
    }

    private fun connection() = JSONObject().put("connectionId", connectionId)

    private suspend fun stayOnline(onProblem: (PresenceProblem) -> Unit) {
        var verb = "connect"
        var failures = 0
        while (true) {
            var wait = 0.0
            try {
                val answer = call("$user/$verb", connection())
                verb = "ping"
                failures = 0
                wait = answer.getDouble("pingIntervalMs") / 1000 * Random.nextDouble(0.9, 1.0)
            } catch (error: Exception) {
                if (error is CancellationException) throw error
                val problem = error as? PresenceProblem
                // A mistake in the program: another attempt is pointless.
                if (problem != null && problem.status in listOf(400, 403)) return onProblem(problem)
                if (problem?.type?.endsWith(":connection-closed") == true) {
                    verb = "connect"
                } else {
                    wait = maxOf(problem?.retryAfter ?: 0.0, Random.nextDouble() * min(30.0, 2.0.pow(failures++)))
                }
            }
            delay((wait * 1000).toLong())
        }
    }

    /** The `events` about some users as JSON, after [cursor] or with a snapshot, and the next one. Waits up to 20 s. */
    suspend fun events(userIds: List<String>, cursor: String?): JSONObject {
        val body = JSONObject().put("userIds", JSONArray(userIds)).put("snapshot", true)
        return call("events", body.put("waitMs", if (cursor == null) 0 else 20_000), cursor)
    }

    private suspend fun call(path: String, body: JSONObject, cursor: String? = null) = withContext(Dispatchers.IO) {
        for (isLast in listOf(false, true)) {
            val bearer = token ?: getToken().also { token = it }
            val http = URL("$service/v1/$path").openConnection() as HttpURLConnection
            for (name in listOf("Content-Type", "Accept")) http.setRequestProperty(name, "application/json")
            http.setRequestProperty("Authorization", "Bearer $bearer")
            if (cursor != null) http.setRequestProperty("Last-Event-ID", cursor)
            http.connectTimeout = 10_000
            http.readTimeout = if (path == "events") 30_000 else 10_000
            http.doOutput = true
            http.outputStream.use { it.write(body.toString().toByteArray()) }
            val status = http.responseCode
            if (status == 200) return@withContext JSONObject(http.inputStream.reader().readText())
            if (status == 401) token = null // One fresh token.
            if (status == 401 && !isLast) continue
            val answer = runCatching { JSONObject(http.errorStream.reader().readText()) }.getOrDefault(JSONObject())
            val retryAfter = http.getHeaderField("Retry-After")?.toDoubleOrNull() ?: 0.0
            throw PresenceProblem(status, answer.optString("type"), answer.optString("detail"), retryAfter)
        }
        error("unreachable")
    }
}
