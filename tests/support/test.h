/*
 * What every CMocka file includes: cmocka.h needs these four before it.
 */
#ifndef HS_TESTS_TEST_H
#define HS_TESTS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
