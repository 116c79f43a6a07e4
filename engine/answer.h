/* What an answer in FakeReasoning's form says: <REASONING> ... </REASONING><CONCLUSION> This image is fake.</CONCLUSION>.
 * The text is a model's, so it may be anything: both functions take any bytes, in time proportional to their number. */
#ifndef FR_ENGINE_ANSWER_H
#define FR_ENGINE_ANSWER_H

#include "fr.h"

/* The authors' rule: between the first <CONCLUSION> and its </CONCLUSION> the exact string "This image is fake." is
 * fake, else "This image is real." is real; without either, or without a <REASONING> ... </REASONING>, unparsed. */
enum fr_verdict fr_answer_verdict(const char *text, size_t len);
/* The parts of the reasoning that speak of each attribute, in the order of fr_attribute_name. */
void fr_answer_attributes(const char *text, size_t len, struct fr_attribute out[FR_ATTRIBUTES]);

#endif
