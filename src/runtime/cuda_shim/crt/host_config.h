// Left out of the wheels as well; it only asks whether nvcc knows the compiler.
#pragma once
