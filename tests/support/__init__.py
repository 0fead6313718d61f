"""What the tests share: servers, fixtures, and two small projects."""
