/* srtp_protect and srtp_unprotect of libsrtp2, as Debian builds it. */
#include <srtp2/srtp.h>
#include "driver.h"

struct session {
  srtp_t sender, receiver;
};

static const struct {
  const char *name;
  srtp_profile_t profile;
} PROFILES[] = {
    {"AES_CM_128_HMAC_SHA1_80", srtp_profile_aes128_cm_sha1_80},
    {"AES_CM_128_HMAC_SHA1_32", srtp_profile_aes128_cm_sha1_32},
    {"AEAD_AES_128_GCM", srtp_profile_aead_aes_128_gcm},
    {"AEAD_AES_256_GCM", srtp_profile_aead_aes_256_gcm},
    {"NULL_HMAC_SHA1_80", srtp_profile_null_sha1_80},
};

static session *open_session(const char *name) {
  static int ready = 0;
  static uint8_t key[SRTP_MAX_KEY_LEN];
  if (!ready) {
    if (srtp_init() != srtp_err_status_ok) return NULL;
    ready = 1;
  }
  for (size_t i = 0; i < sizeof PROFILES / sizeof *PROFILES; i++) {
    if (strcmp(PROFILES[i].name, name) != 0) continue;
    srtp_profile_t profile = PROFILES[i].profile;
    unsigned key_length = srtp_profile_get_master_key_length(profile);
    memset(key, MASTER_KEY, key_length);
    memset(key + key_length, MASTER_SALT, srtp_profile_get_master_salt_length(profile));
    srtp_policy_t policy;
    memset(&policy, 0, sizeof policy);
    if (srtp_crypto_policy_set_from_profile_for_rtp(&policy.rtp, profile) != srtp_err_status_ok) return NULL;
    if (srtp_crypto_policy_set_from_profile_for_rtcp(&policy.rtcp, profile) != srtp_err_status_ok) return NULL;
    policy.key = key;
    policy.window_size = 128;
    session *s = calloc(1, sizeof *s);
    policy.ssrc.type = ssrc_any_outbound;
    if (srtp_create(&s->sender, &policy) == srtp_err_status_ok) {
      policy.ssrc.type = ssrc_any_inbound;
      if (srtp_create(&s->receiver, &policy) == srtp_err_status_ok) return s;
      srtp_dealloc(s->sender);
    }
    free(s);
    return NULL;
  }
  return NULL;
}

static void close_session(session *s) {
  srtp_dealloc(s->sender);
  srtp_dealloc(s->receiver);
  free(s);
}

static int protect(session *s, uint8_t *packet, int length) {
  return srtp_protect(s->sender, packet, &length) == srtp_err_status_ok ? length : -1;
}

static int unprotect(session *s, uint8_t *packet, int length) {
  return srtp_unprotect(s->receiver, packet, &length) == srtp_err_status_ok ? length : -1;
}
