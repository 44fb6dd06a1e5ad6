"""What the tests share: fake sockets, loops in threads, child processes, servers, planted builds."""
