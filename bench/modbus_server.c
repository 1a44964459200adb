/* A Modbus TCP server on libmodbus for the bench: many connections, holding registers 19000 to
 * 19199 that hold 1.5 as float32. Prints its port. Build: cc -O2 modbus_server.c -o server $(pkg-config --cflags --libs libmodbus) */
#include <errno.h>
#include <modbus.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <signal.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void) {
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    struct sockaddr_in name = {.sin_family = AF_INET};
    socklen_t size = sizeof name;
    fd_set all;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    modbus_t *context = modbus_new_tcp(NULL, 0);
    modbus_mapping_t *registers = modbus_mapping_new_start_address(0, 0, 0, 0, 19000, 200, 0, 0);
    for (int i = 0; i < 200; i++) registers->tab_registers[i] = i % 2 ? 0x0000 : 0x3FC0;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&name, size) || listen(listener, 256)) return 1;
    getsockname(listener, (struct sockaddr *)&name, &size);
    printf("%d\n", ntohs(name.sin_port));
    fflush(stdout);
    FD_ZERO(&all);
    FD_SET(listener, &all);
    for (int highest = listener;;) {
        fd_set ready = all;
        if (select(highest + 1, &ready, NULL, NULL, NULL) < 0) return errno != EINTR;
        for (int fd = 0; fd <= highest; fd++) {
            if (!FD_ISSET(fd, &ready)) continue;
            if (fd == listener) {
                int fresh = accept(listener, NULL, NULL);
                FD_SET(fresh, &all);
                if (fresh > highest) highest = fresh;
                continue;
            }
            modbus_set_socket(context, fd);
            int length = modbus_receive(context, query);
            if (length > 0) modbus_reply(context, query, length, registers);
            else if (length < 0) {
                close(fd);
                FD_CLR(fd, &all);
            }
        }
    }
}
