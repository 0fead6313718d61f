from tests.integration.accounts.conftest import ada, ada_api, register, staff_api

__all__ = ["ada", "ada_api", "register", "staff_api"]
