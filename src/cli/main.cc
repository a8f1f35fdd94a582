// The program kvmerger; everything is in app.cc.
#include "cli/app.h"

int main(int argc, char** argv) { return kvmerger::cli::run_program({argv + 1, argv + argc}); }
