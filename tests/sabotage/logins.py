"""Safeguards of log-ins and tokens (docs/api.md)."""

from typing import Final

from tests.sabotage.sabotage import Sabotage

LOGINS: Final = "tests/attacks/accounts/test_logins.py"
TOKENS: Final = "tests/attacks/accounts/test_tokens.py"
KEYS: Final = "tests/unit/config/test_keys.py"
COPY: Final = "tests/integration/orders/test_key_copy.py"
IDENTITY: Final = "tests/unit/config/test_identity.py"

SABOTAGES: Final = (
    Sabotage(
        promise="a start doesn't bring a leaked password of the administrator back",
        file="config/prepare.py",
        old="password_file=password_file, keep=True)",
        new="password_file=password_file)",
        test="tests/integration/accounts/test_seed_staff.py::"
        "test_a_start_neither_restores_a_leaked_password_nor_a_deactivated_administrator",
    ),
    Sabotage(
        promise="a guess is counted before its password is checked",
        file="config/logins/guard.py",
        old="    _count(limits, known)\n    try:\n        yield\n",
        new="    try:\n        yield\n        _count(limits, known)\n",
        test=f"{LOGINS}::test_guesses_at_the_same_time_are_counted_before_they_fail",
    ),
    Sabotage(
        promise="only a correct password is taken off the counts",
        file="config/logins/guard.py",
        old="    except wrong:\n        raise\n",
        new="",
        test=f"{LOGINS}::test_a_guess_above_the_limit_is_refused_although_it_is_right",
    ),
    Sabotage(
        promise="a correct password doesn't reset the counts",
        file="config/logins/guard.py",
        old="SET count = counted.count - 1",
        new="SET count = 0",
        test=f"{LOGINS}::test_a_correct_password_does_not_reset_the_count",
    ),
    Sabotage(
        promise="guesses are limited by account, over all addresses",
        file="config/logins/guard.py",
        old="if count > limit.most and",
        new='if limit.name != "account" and count > limit.most and',
        test=f"{LOGINS}::test_one_account_is_limited_over_all_addresses",
    ),
    Sabotage(
        promise="guesses are limited by address, over all accounts",
        file="config/logins/guard.py",
        old="if count > limit.most and",
        new='if limit.name != "address" and count > limit.most and',
        test=f"{LOGINS}::test_one_address_is_limited_over_all_accounts",
    ),
    Sabotage(
        promise="wrong guesses of others don't keep a client out that has logged in",
        file="config/logins/guard.py",
        old="(limit.name == BOTH or not _is_known(cursor, known))",
        new="True",
        test=f"{LOGINS}::test_a_client_that_has_logged_in_is_not_kept_out_by_others",
    ),
    Sabotage(
        promise="the limits of the back office don't tell which addresses exist",
        file="accounts/api/access.py",
        old='account=f"{kind} {account}"',
        new='account=f"staff {account}"',
        test=f"{LOGINS}"
        "::test_no_other_form_of_an_address_and_no_other_door_tells_whether_it_exists",
    ),
    Sabotage(
        promise="a client with a network of IPv6 addresses has one count",
        file="config/clients.py",
        old="NETWORK_BITS: Final = 64",
        new="NETWORK_BITS: Final = 128",
        test=f"{LOGINS}::test_a_client_has_one_count_for_all_addresses_of_its_network",
    ),
    Sabotage(
        promise="every rate counts a network of IPv6 addresses as one client",
        file="config/clients.py",
        old="        return client_of(request)\n",
        new="        return super().get_ident(request)\n",
        test=f"{LOGINS}::test_a_network_is_one_client_of_every_rate",
    ),
    Sabotage(
        promise="the limits don't tell whether a user has an id",
        file="accounts/api/access.py",
        old='kind = "id" if isinstance(account, UUID) else "address"',
        new='kind = "user"',
        test=f"{LOGINS}::test_a_typed_id_shares_no_limit_with_the_user_that_has_it",
    ),
    Sabotage(
        promise="the time of a guess doesn't tell whether the user exists",
        file="accounts/api/login.py",
        old="        renew_hash(now.user_id, password, encoded=now.password_hash)\n",
        new="",
        test=f"{LOGINS}::test_a_log_in_renews_a_hash_that_takes_another_time",
    ),
    Sabotage(
        promise="log-ins to the API are limited",
        file="accounts/api/login.py",
        old="with guard(request, account, wrong=AuthenticationFailed, is_login=True):",
        new="with suppress():",
        test=f"{LOGINS}::test_a_guess_above_the_limit_is_refused_although_it_is_right",
    ),
    Sabotage(
        promise="log-ins to the back office are limited",
        file="config/settings/security.py",
        old="config.logins.backend.GuardedBackend",
        new="django.contrib.auth.backends.ModelBackend",
        test=f"{LOGINS}::test_a_guess_above_the_limit_is_refused_although_it_is_right",
    ),
    Sabotage(
        promise="the form of a new password limits guesses at the current one",
        file="config/back_office.py",
        old="with suppress(WrongPassword), guard(request, account=account, wrong=WrongPassword):",
        new="with suppress(WrongPassword):",
        test=f"{LOGINS}::test_a_guess_above_the_limit_is_refused_although_it_is_right",
    ),
    Sabotage(
        promise="guesses at the current password with an access token are limited",
        file="accounts/api/views.py",
        old="        with guesses:\n",
        new="        with nullcontext():\n",
        test=f"{LOGINS}::test_guesses_with_a_stolen_access_token_share_the_limits_of_a_log_in",
    ),
    Sabotage(
        promise="a change that must be refused costs no hash",
        file="accounts/handlers.py",
        old="        _require_free(email, but=row.pk)\n",
        new="        pass\n",
        test=f"{LOGINS}::test_a_change_that_must_be_refused_computes_no_hash",
    ),
    Sabotage(
        promise="a new password or address needs the current password",
        file="accounts/handlers.py",
        old="if rules.PROVEN_FIELDS & set(changed):",
        new="if False:",
        test=f"{TOKENS}::test_a_stolen_access_token_takes_no_account_over",
    ),
    Sabotage(
        promise="a checked password is for one version of the user",
        file="accounts/handlers.py",
        old="        command = replace(command, expected_version=row.version)\n",
        new="",
        test=f"{TOKENS}::test_a_change_whose_password_was_checked_is_for_that_version_only",
    ),
    Sabotage(
        promise="a log-in that overtakes a new password starts no family",
        file="accounts/api/login.py",
        old="if now is None or (now != credentials and not _is_correct(password, now)):",
        new="if False:",
        test=f"{TOKENS}::test_a_log_in_whose_password_changes_meanwhile_starts_no_family",
    ),
    Sabotage(
        promise="a refresh token that is used twice ends its family",
        file="accounts/families.py",
        old="if family.delete()[0]:",
        new="if False:",
        test=f"{TOKENS}::test_a_stolen_refresh_token_that_is_used_twice_ends_its_family",
    ),
    Sabotage(
        promise="a refresh token can be used once",
        file="accounts/families.py",
        old="family.filter(turn=turn.number)",
        new="family",
        test=f"{TOKENS}::test_of_two_uses_at_the_same_time_one_succeeds",
    ),
    Sabotage(
        promise="a log-out ends the refresh tokens",
        file="accounts/api/login.py",
        old='families.end(turn, everywhere=serializer.validated_data["everywhere"])',
        new="turn",
        test=f"{TOKENS}::test_a_log_out_ends_the_refresh_tokens_of_one_log_in_or_of_all",
    ),
    Sabotage(
        promise="a new password or a deactivation ends the refresh tokens",
        file="accounts/handlers.py",
        old="                families.end_all(command.user_id)\n",
        new="                pass\n",
        test="tests/integration/accounts/test_login.py"
        "::test_a_deactivation_a_new_password_or_an_erasure_ends_refresh_tokens",
    ),
    Sabotage(
        promise="a new key is published before it signs",
        file="accounts/keys.py",
        old="if key.signs_from <= at",
        new="if True",
        test=f"{TOKENS}::test_a_rotated_key_is_published_before_it_signs_and_after_it_is_replaced",
    ),
    Sabotage(
        promise="a replaced key is published until its tokens have expired",
        file="accounts/management/commands/signing_keys.py",
        old="following.signs_from + last_use > now",
        new="following.signs_from > now",
        test=f"{TOKENS}::test_a_rotated_key_is_published_before_it_signs_and_after_it_is_replaced",
    ),
    Sabotage(
        promise="a removed key ends at every verifier",
        file="config/keys.py",
        old="elif self._clock() >= self._refresh_at:",
        new="elif False:",
        test=f"{KEYS}::test_a_known_key_is_read_again_after_a_minute_and_ends_if_it_was_removed",
    ),
    Sabotage(
        promise="a process that starts while accounts is away verifies tokens with the saved keys",
        file="config/keys.py",
        old="            if not self._keys:\n                self._read_copy()\n",
        new="",
        test=f"{COPY}::test_a_process_that_starts_while_accounts_is_away_knows_the_saved_keys",
    ),
    Sabotage(
        promise="a new worker of gunicorn doesn't use the old keys of the master",
        file="config/gunicorn.py",
        old="        key_set.cache_clear()\n",
        new="        pass\n",
        test="tests/integration/config/test_gunicorn.py"
        "::test_a_worker_that_starts_later_accepts_no_key_that_only_the_master_knows",
    ),
    Sabotage(
        promise="workers of gunicorn share no connection to the database",
        file="config/gunicorn.py",
        old="        connections.close_all()  # workers must not share the connection\n",
        new="",
        test="tests/integration/config/test_gunicorn.py"
        "::test_the_master_fetches_the_keys_and_keeps_no_connection",
    ),
    Sabotage(
        promise="a request that saves the keys may still read a replica",
        file="orders/key_copy.py",
        old="alias, now = primary(KeyCopy._meta.app_label), timezone.now()",
        new="from django.db import router\n"
        "        alias, now = router.db_for_write(KeyCopy), timezone.now()",
        test=f"{COPY}::test_a_request_that_fetches_the_keys_may_still_read_a_replica",
    ),
    Sabotage(
        promise="old saved keys verify no token",
        file="orders/key_copy.py",
        old="source=source, fetched_at__gt=oldest",
        new="source=source",
        test=f"{COPY}::test_keys_that_were_saved_long_ago_verify_nothing",
    ),
    Sabotage(
        promise="tokens of unknown keys don't keep a verifier from a new key",
        file="config/keys.py",
        old="FAILURE_PAUSE_SECONDS if is_waiting else PAUSE_SECONDS",
        new="REFRESH_SECONDS",
        test=f"{KEYS}::test_a_new_key_is_known_before_it_signs_although_kids_are_invented",
    ),
    Sabotage(
        promise="a service accepts only tokens that are for it",
        file="config/identity.py",
        old="audience=settings.SERVICES,",
        new="audience=settings.JWT_AUDIENCES,",
        test=f"{IDENTITY}::test_a_service_accepts_only_tokens_that_are_also_for_it",
    ),
    Sabotage(
        promise="a token without an audience is refused unless a setting accepts it",
        file="config/identity.py",
        old="if settings.JWT_WITHOUT_AUDIENCE:",
        new="if True:",
        test=f"{IDENTITY}::test_a_token_without_a_required_claim_is_refused",
    ),
    Sabotage(
        promise="a key of accounts has signed a token",
        file="config/identity.py",
        old="options=_options(token),",
        new='options={**_options(token), "verify_signature": False},',
        test=f"{IDENTITY}::test_a_forged_token_is_refused",
    ),
    Sabotage(
        promise="a token names accounts as its issuer",
        file="config/identity.py",
        old="            issuer=ISSUER,\n",
        new="",
        test=f"{IDENTITY}::test_a_token_with_a_wrong_claim_is_refused",
    ),
    Sabotage(
        promise="a refresh token is no access token",
        file="config/identity.py",
        old='if claims["typ"] != "access":',
        new="if False:",
        test=f"{IDENTITY}::test_a_token_with_a_wrong_claim_is_refused",
    ),
    Sabotage(
        promise="a guess costs a hash also for an unknown address",
        file="accounts/passwords.py",
        old="        encoded = make_password(None)",
        new="        return False",
        test=f"{LOGINS}::test_an_unknown_address_has_the_same_limits_answers_and_hashes",
    ),
    Sabotage(
        promise="the clocks of two servers may differ by seconds",
        file="config/identity.py",
        old="            leeway=settings.JWT_LEEWAY_SECONDS,\n",
        new="",
        test=f"{IDENTITY}::test_the_clocks_of_two_servers_may_differ_by_seconds",
    ),
)
