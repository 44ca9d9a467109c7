# Makes OUTPUT, an archive, of the archives ENGINE and MORE (separated by commas). A script for `ar -M`, since plain
# `ar` would put the archives into it and not their members.
file(REMOVE ${OUTPUT})
string(REPLACE "," ";" more "${MORE}")
set(script "create ${OUTPUT}\n")
foreach(archive ${ENGINE} ${more})
  string(APPEND script "addlib ${archive}\n")
endforeach()
string(APPEND script "save\nend\n")
file(WRITE ${OUTPUT}.mri ${script})
execute_process(COMMAND ${AR} -M INPUT_FILE ${OUTPUT}.mri COMMAND_ERROR_IS_FATAL ANY)
file(REMOVE ${OUTPUT}.mri)
