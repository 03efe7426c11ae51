/*
 * The limit that OpenSSL sets: one AES-CTR and one HMAC-SHA1, or one AES-GCM, per packet with contexts that are kept, and
 * nothing else of SRTP: no key derivation, no rollover, no replay protection.
 */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include "driver.h"

enum { HMAC_TAG = 10, GCM_TAG = 16 };

struct session {
  int is_gcm;
  EVP_CIPHER_CTX *seal, *open;
  EVP_MAC_CTX *mac;
  uint8_t salt[16];
};

static EVP_CIPHER_CTX *cipher_of(const EVP_CIPHER *cipher, const uint8_t *key, int encrypts) {
  EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
  EVP_CipherInit_ex(ctx, cipher, NULL, key, NULL, encrypts);
  return ctx;
}

static session *open_session(const char *name) {
  int is_gcm = strstr(name, "GCM") != NULL;
  int is_256 = strstr(name, "256") != NULL;
  if (!is_gcm && (strstr(name, "AES_CM_128") == NULL || strstr(name, "_80") == NULL)) return NULL;
  static EVP_CIPHER *ctr, *gcm128, *gcm256;
  static EVP_MAC *hmac;
  if (ctr == NULL) {
    ctr = EVP_CIPHER_fetch(NULL, "AES-128-CTR", NULL);
    gcm128 = EVP_CIPHER_fetch(NULL, "AES-128-GCM", NULL);
    gcm256 = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
  }
  session *s = calloc(1, sizeof *s);
  uint8_t key[32];
  memset(key, MASTER_KEY, sizeof key);
  memset(s->salt, MASTER_SALT, sizeof s->salt);
  s->is_gcm = is_gcm;
  const EVP_CIPHER *cipher = !is_gcm ? ctr : is_256 ? gcm256 : gcm128;
  s->seal = cipher_of(cipher, key, 1);
  s->open = cipher_of(cipher, key, 0);
  if (!is_gcm) {
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, "SHA1", 0), OSSL_PARAM_construct_end()};
    s->mac = EVP_MAC_CTX_new(hmac);
    EVP_MAC_init(s->mac, key, 20, params);
  }
  return s;
}

static void close_session(session *s) {
  EVP_CIPHER_CTX_free(s->seal);
  EVP_CIPHER_CTX_free(s->open);
  EVP_MAC_CTX_free(s->mac);
  free(s);
}

/* The initialisation vector of the packet: salt, SSRC and sequence number, as SRTP would lay them out with ROC 0. */
static void vector_of(const session *s, const uint8_t *packet, uint8_t *iv) {
  int at = s->is_gcm ? 2 : 4;
  memcpy(iv, s->salt, 16);
  for (int i = 0; i < 4; i++) iv[at + i] ^= packet[8 + i];
  at += 8;
  iv[at] ^= packet[2];
  iv[at + 1] ^= packet[3];
  if (!s->is_gcm) iv[14] = iv[15] = 0;
}

static void mac_of(session *s, const uint8_t *packet, int length, uint8_t *tag) {
  static const uint8_t rollover[4];
  size_t written;
  EVP_MAC_init(s->mac, NULL, 0, NULL);
  EVP_MAC_update(s->mac, packet, length);
  EVP_MAC_update(s->mac, rollover, 4);
  EVP_MAC_final(s->mac, tag, &written, 20);
}

static int protect(session *s, uint8_t *packet, int length) {
  uint8_t iv[16], tag[20];
  int n;
  vector_of(s, packet, iv);
  EVP_EncryptInit_ex(s->seal, NULL, NULL, NULL, iv);
  if (s->is_gcm) {
    EVP_EncryptUpdate(s->seal, NULL, &n, packet, HEADER);
    EVP_EncryptUpdate(s->seal, packet + HEADER, &n, packet + HEADER, length - HEADER);
    EVP_EncryptFinal_ex(s->seal, packet + length, &n);
    EVP_CIPHER_CTX_ctrl(s->seal, EVP_CTRL_AEAD_GET_TAG, GCM_TAG, packet + length);
    return length + GCM_TAG;
  }
  EVP_EncryptUpdate(s->seal, packet + HEADER, &n, packet + HEADER, length - HEADER);
  mac_of(s, packet, length, tag);
  memcpy(packet + length, tag, HMAC_TAG);
  return length + HMAC_TAG;
}

static int unprotect(session *s, uint8_t *packet, int length) {
  uint8_t iv[16], tag[20];
  int n;
  vector_of(s, packet, iv);
  if (s->is_gcm) {
    length -= GCM_TAG;
    EVP_DecryptInit_ex(s->open, NULL, NULL, NULL, iv);
    EVP_DecryptUpdate(s->open, NULL, &n, packet, HEADER);
    EVP_DecryptUpdate(s->open, packet + HEADER, &n, packet + HEADER, length - HEADER);
    EVP_CIPHER_CTX_ctrl(s->open, EVP_CTRL_AEAD_SET_TAG, GCM_TAG, packet + length);
    return EVP_DecryptFinal_ex(s->open, packet + length, &n) > 0 ? length : -1;
  }
  length -= HMAC_TAG;
  mac_of(s, packet, length, tag);
  if (CRYPTO_memcmp(tag, packet + length, HMAC_TAG) != 0) return -1;
  EVP_EncryptInit_ex(s->seal, NULL, NULL, NULL, iv);
  EVP_EncryptUpdate(s->seal, packet + HEADER, &n, packet + HEADER, length - HEADER);
  return length;
}
