// Does not compile: a case that has a name would be used twice.
#include <weft/select.hpp>

int main() {
  weft::Channel<int> channel(2);
  auto sending = weft::on_send(channel, 1);
  weft::select(sending);
  weft::select(sending);
}
