#pragma once
#include <grp.h>
#include <gshadow.h>
#include <netdb.h>
#include <pwd.h>
#include <shadow.h>
#include <unistd.h>

#include <cstdio>

// As <resolv.h> declares them, whose macros would reach into everything.
struct __res_state;
extern "C" {
int res_nquery(__res_state* state, const char* name, int kind, int type, unsigned char* answer,
               int size) noexcept;
int res_nsearch(__res_state* state, const char* name, int kind, int type, unsigned char* answer,
                int size) noexcept;
int res_nquerydomain(__res_state* state, const char* name, const char* domain, int kind, int type,
                     unsigned char* answer, int size) noexcept;
int res_nsend(__res_state* state, const unsigned char* message, int length, unsigned char* answer,
              int size) noexcept;
int res_query(const char* name, int kind, int type, unsigned char* answer, int size) noexcept;
int res_search(const char* name, int kind, int type, unsigned char* answer, int size) noexcept;
int res_querydomain(const char* name, const char* domain, int kind, int type, unsigned char* answer,
                    int size) noexcept;
int res_send(const unsigned char* message, int length, unsigned char* answer, int size) noexcept;
}

// X(call), Y(symbol, call): see calls.hpp.
#define WEFT_NAMES_CALLS(X) \
  X(getaddrinfo)            \
  X(getnameinfo)            \
  X(gai_suspend)            \
  X(gethostbyname)          \
  X(gethostbyname2)         \
  X(gethostbyaddr)          \
  X(gethostbyname_r)        \
  X(gethostbyname2_r)       \
  X(gethostbyaddr_r)        \
  X(gethostent)             \
  X(gethostent_r)           \
  X(getnetbyname)           \
  X(getnetbyaddr)           \
  X(getnetbyname_r)         \
  X(getnetbyaddr_r)         \
  X(__h_errno_location)     \
  X(getservbyname)          \
  X(getservbyport)          \
  X(getservbyname_r)        \
  X(getservbyport_r)        \
  X(getprotobyname)         \
  X(getprotobynumber)       \
  X(getprotobyname_r)       \
  X(getprotobynumber_r)     \
  X(getpwnam)               \
  X(getpwuid)               \
  X(getpwnam_r)             \
  X(getpwuid_r)             \
  X(getpwent)               \
  X(getpwent_r)             \
  X(getgrnam)               \
  X(getgrgid)               \
  X(getgrnam_r)             \
  X(getgrgid_r)             \
  X(getgrent)               \
  X(getgrent_r)             \
  X(getgrouplist)           \
  X(initgroups)             \
  X(getspnam)               \
  X(getspnam_r)             \
  X(getlogin)               \
  X(getlogin_r)             \
  X(res_nquery)             \
  X(res_nsearch)            \
  X(res_nquerydomain)       \
  X(res_nsend)              \
  X(res_query)              \
  X(res_search)             \
  X(res_querydomain)        \
  X(res_send)
#define WEFT_NAMES_ALIASES(Y)             \
  Y(__getlogin_r_chk, getlogin_r)         \
  Y(__res_nquery, res_nquery)             \
  Y(__res_nsearch, res_nsearch)           \
  Y(__res_nquerydomain, res_nquerydomain) \
  Y(__res_nsend, res_nsend)               \
  Y(__res_query, res_query)               \
  Y(__res_search, res_search)             \
  Y(__res_querydomain, res_querydomain)   \
  Y(__res_send, res_send)
