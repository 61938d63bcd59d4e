import 'dart:async';
import 'dart:convert';
import 'dart:math';

import 'package:flutter/widgets.dart';
import 'package:http/http.dart' as http;

/// Why the service refused a call.
class PresenceProblem implements Exception {
  PresenceProblem(this.status, this.type, this.detail, this.retryAfter);
  final int status;
  final String type, detail;
  final double retryAfter;
}

/// Keeps one user online while the app is in the foreground, and reads which other users are online.
class Presence with WidgetsBindingObserver {
  /// [connectionId] is made once for each installation, and kept.
  Presence(this.service, String userId, this.connectionId, this.getToken, this.onProblem)
      : user = 'users/${Uri.encodeComponent(userId)}' {
    WidgetsBinding.instance.addObserver(this);
    _stayOnline(++_turn);
  }

  final String service, user, connectionId;
  final Future<String> Function() getToken;
  final void Function(PresenceProblem) onProblem;
  final _random = Random();
  String? _token;
  int _turn = 0;

  @override
  void didChangeAppLifecycleState(AppLifecycleState state) {
    if (state == AppLifecycleState.resumed) {
      _stayOnline(++_turn);
    } else if (state == AppLifecycleState.paused) {
      _turn++;
      // If the call fails, the user is offline when the TTL ends. A return within ten seconds is no departure.
      unawaited(_call('$user/disconnect', {'connectionId': connectionId, 'graceMs': 10000}).then((_) {}, onError: (_) {}));
    }
  }

  /// Closes the connections of the user on all devices.
  Future<void> signOut() async {
    _turn++;
    WidgetsBinding.instance.removeObserver(this);
    await _call('$user/disconnect', {'all': true});
  }

  Future<void> _stayOnline(int turn) async {
    var verb = 'connect', failures = 0;
    while (turn == _turn) {
      var wait = 0.0;
      try {
        final answer = await _call('$user/$verb', {'connectionId': connectionId});
        verb = 'ping';
        failures = 0;
        wait = (answer['pingIntervalMs'] as int) / 1000 * (0.9 + 0.1 * _random.nextDouble());
      } catch (error) {
        final problem = error is PresenceProblem ? error : PresenceProblem(0, '', '$error', 0);
        // A mistake in the program: another attempt is pointless.
        if (problem.status == 400 || problem.status == 403) return onProblem(problem);
        if (problem.type.endsWith(':connection-closed')) {
          verb = 'connect';
        } else {
          wait = max(problem.retryAfter, _random.nextDouble() * min(30, pow(2, failures++)));
        }
      }
      await Future<void>.delayed(Duration(milliseconds: (wait * 1000).round()));
    }
  }

  /// The `events` about some users as JSON, after [cursor] or with a snapshot, and the next `cursor`. Waits up to 20 s.
  Future<Map<String, dynamic>> events(List<String> userIds, String? cursor) => _call('events',
      {'userIds': userIds, 'snapshot': true, 'waitMs': cursor == null ? 0 : 20000}, cursor);

  Future<Map<String, dynamic>> _call(String path, Map<String, Object> body, [String? cursor]) async {
    for (var isLast = false;; isLast = true) {
      _token ??= await getToken();
      final headers = {
        'Authorization': 'Bearer $_token',
        'Content-Type': 'application/json',
        'Accept': 'application/json',
        if (cursor != null) 'Last-Event-ID': cursor,
      };
      final uri = Uri.parse('$service/v1/$path');
      final timeout = Duration(seconds: path == 'events' ? 30 : 10);
      final response = await http.post(uri, headers: headers, body: jsonEncode(body)).timeout(timeout);
      if (response.statusCode == 200) return jsonDecode(utf8.decode(response.bodyBytes)) as Map<String, dynamic>;
      if (response.statusCode == 401) _token = null; // One fresh token.
      if (response.statusCode == 401 && !isLast) continue;
      final isProblem = response.headers['content-type'] == 'application/problem+json';
      final problem = isProblem ? jsonDecode(response.body) as Map<String, dynamic> : <String, dynamic>{};
      final retryAfter = double.tryParse(response.headers['retry-after'] ?? '') ?? 0;
      throw PresenceProblem(response.statusCode, '${problem['type']}', '${problem['detail']}', retryAfter);
    }
  }
}
