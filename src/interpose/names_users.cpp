// Names: users and groups.
#include "interpose/names_answers.hpp"

namespace weft::engine::interpose {

passwd* routed::getpwnam(const char* name) noexcept {
  return offload_answer(WEFT_ANSWER(getpwnam), name);
}
passwd* routed::getpwuid(uid_t user) noexcept {
  return offload_answer(WEFT_ANSWER(getpwuid), user);
}
passwd* routed::getpwent() noexcept {
  return offload_answer(WEFT_ANSWER(getpwent));
}
group* routed::getgrnam(const char* name) noexcept {
  return offload_answer(WEFT_ANSWER(getgrnam), name);
}
group* routed::getgrgid(gid_t id) noexcept {
  return offload_answer(WEFT_ANSWER(getgrgid), id);
}
group* routed::getgrent() noexcept {
  return offload_answer(WEFT_ANSWER(getgrent));
}
spwd* routed::getspnam(const char* name) noexcept {
  return offload_answer(WEFT_ANSWER(getspnam), name);
}
char* routed::getlogin() noexcept {
  return offload(WEFT_CALL(getlogin));
}

int routed::getpwnam_r(const char* name, passwd* entry, char* buffer, size_t size, passwd** result) noexcept {
  return offload(WEFT_CALL(getpwnam_r), name, entry, buffer, size, result);
}

int routed::getpwuid_r(uid_t user, passwd* entry, char* buffer, size_t size, passwd** result) noexcept {
  return offload(WEFT_CALL(getpwuid_r), user, entry, buffer, size, result);
}

int routed::getpwent_r(passwd* entry, char* buffer, size_t size, passwd** result) noexcept {
  return offload(WEFT_CALL(getpwent_r), entry, buffer, size, result);
}

int routed::getgrnam_r(const char* name, group* entry, char* buffer, size_t size, group** result) noexcept {
  return offload(WEFT_CALL(getgrnam_r), name, entry, buffer, size, result);
}

int routed::getgrgid_r(gid_t id, group* entry, char* buffer, size_t size, group** result) noexcept {
  return offload(WEFT_CALL(getgrgid_r), id, entry, buffer, size, result);
}

int routed::getgrent_r(group* entry, char* buffer, size_t size, group** result) noexcept {
  return offload(WEFT_CALL(getgrent_r), entry, buffer, size, result);
}

int routed::getspnam_r(const char* name, spwd* entry, char* buffer, size_t size, spwd** result) noexcept {
  return offload(WEFT_CALL(getspnam_r), name, entry, buffer, size, result);
}

int routed::getgrouplist(const char* user, gid_t id, gid_t* groups, int* count) noexcept {
  return offload(WEFT_CALL(getgrouplist), user, id, groups, count);
}

int routed::initgroups(const char* user, gid_t id) noexcept {
  return offload(WEFT_CALL(initgroups), user, id);
}

int routed::getlogin_r(char* name, size_t size) noexcept {
  return offload(WEFT_CALL(getlogin_r), name, size);
}

}  // namespace weft::engine::interpose
