"""A process to be watched from outside: it does nothing but what the lines on its standard input say, and answers each.

``import`` imports netmon, ``monitor SECONDS`` starts a monitor with that interval, ``monitor`` one with the defaults, ``cpu``
answers the CPU seconds the monitor charges itself, ``sample COUNT`` takes so many samples on demand, ``connect PORT COUNT``
opens so many connections that stay, ``readings CONNECTIONS COUNT`` waits for so many readings of them.
"""

import sys


def main() -> None:
    """Obey until the input ends."""
    monitor = None
    print("ready", flush=True)
    for line in sys.stdin:
        command, *arguments = line.split()
        answer: object = "done"
        if command == "import":
            import netmon
        elif command == "monitor":
            monitor = netmon.Monitor(*map(float, arguments))
        elif command == "cpu" and monitor is not None:
            answer = monitor.health().cpu_seconds_total
        elif command == "sample" and monitor is not None:
            for _ in range(int(arguments[0])):
                monitor.sample()
        elif command == "connect":
            from . import sockets

            sockets.connect(*map(int, arguments))
        elif command == "readings" and monitor is not None:
            from . import sockets

            readings = sockets.Readings(monitor, int(arguments[0]))
            for _ in range(int(arguments[1])):
                readings.next()
        print(answer, flush=True)
    if monitor is not None:
        monitor.close()


if __name__ == "__main__":
    main()
