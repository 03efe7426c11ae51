/* Opens the SRTP packets of a file with libsrtp under the exported policy of stream_0, and prints the RTP packets in hexadecimal.
   The file: for every packet a line of hexadecimal; a line that begins with c is SRTCP. */
#include <srtp2/srtp.h>
#include <stdio.h>
#include <string.h>

#include "policy.h"

int main(int count, char **arguments) {
  static char line[8192];
  static unsigned char packet[4096];
  srtp_t session;
  FILE *file = count > 1 ? fopen(arguments[1], "r") : NULL;
  if (file == NULL || srtp_init() != srtp_err_status_ok) return 2;
  if (srtp_create(&session, &stream_0_policy) != srtp_err_status_ok) return 3;
  if (stream_0_roc != 0 && srtp_set_stream_roc(session, stream_0_policy.ssrc.value, stream_0_roc) != srtp_err_status_ok) return 4;
  while (fgets(line, sizeof line, file) != NULL) {
    const char *hex = line[0] == 'c' ? line + 1 : line;
    int length = (int)strcspn(hex, "\n") / 2;
    unsigned int use_mki = stream_0_policy.keys[0]->mki_size > 0;
    srtp_err_status_t status;
    for (int i = 0; i < length; i++) {
      unsigned int octet;
      if (sscanf(hex + 2 * i, "%2x", &octet) != 1) return 5;
      packet[i] = (unsigned char)octet;
    }
    status = line[0] == 'c' ? srtp_unprotect_rtcp_mki(session, packet, &length, use_mki)
                            : srtp_unprotect_mki(session, packet, &length, use_mki);
    if (status != srtp_err_status_ok) {
      printf("error %d\n", status);
      continue;
    }
    for (int i = 0; i < length; i++) printf("%02x", packet[i]);
    printf("\n");
  }
  fclose(file);
  return 0;
}
