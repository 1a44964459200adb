/* Asks one agent the same OIDs again and again with net-snmp: snmp_loop PEER 2|3 SECONDS OID... */
#include <net-snmp/net-snmp-config.h>
#include <net-snmp/net-snmp-includes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void use_v3(netsnmp_session *s) {
    s->version = SNMP_VERSION_3;
    s->securityName = "bench";
    s->securityNameLen = 5;
    s->securityLevel = SNMP_SEC_LEVEL_AUTHPRIV;
    s->securityAuthProto = usmHMAC192SHA256AuthProtocol;
    s->securityAuthProtoLen = OID_LENGTH(usmHMAC192SHA256AuthProtocol);
    s->securityAuthKeyLen = USM_AUTH_KU_LEN;
    generate_Ku(s->securityAuthProto, s->securityAuthProtoLen, (u_char *)"benchauth", 9, s->securityAuthKey,
                &s->securityAuthKeyLen);
    s->securityPrivProto = usmAESPrivProtocol;
    s->securityPrivProtoLen = OID_LENGTH(usmAESPrivProtocol);
    s->securityPrivKeyLen = USM_PRIV_KU_LEN;
    generate_Ku(s->securityAuthProto, s->securityAuthProtoLen, (u_char *)"benchpriv", 9, s->securityPrivKey,
                &s->securityPrivKeyLen);
}

int main(int argc, char **argv) {
    netsnmp_session wanted, *session;
    long count = 0;
    init_snmp("snmp_loop");
    snmp_sess_init(&wanted);
    wanted.peername = argv[1];
    wanted.version = SNMP_VERSION_2c;
    wanted.community = (u_char *)"public";
    wanted.community_len = 6;
    if (strcmp(argv[2], "3") == 0)
        use_v3(&wanted);
    session = snmp_open(&wanted);
    if (session == NULL)
        return 1;
    double end = now_s() + atof(argv[3]), start = now_s();
    while (now_s() < end) {
        netsnmp_pdu *answer = NULL, *pdu = snmp_pdu_create(SNMP_MSG_GET);
        for (int i = 4; i < argc; i++) {
            oid name[MAX_OID_LEN];
            size_t length = MAX_OID_LEN;
            read_objid(argv[i], name, &length);
            snmp_add_null_var(pdu, name, length);
        }
        if (snmp_synch_response(session, pdu, &answer) != STAT_SUCCESS || answer->errstat != 0)
            return 2;
        snmp_free_pdu(answer);
        count++;
    }
    printf("%f\n", count / (now_s() - start));
    return 0;
}
