/* A roofline plot as SVG: what is reached, over operations per byte, under what the machine can do. */
#ifndef FR_BENCH_PLOT_H
#define FR_BENCH_PLOT_H

#include <stdio.h>

#include "../engine/error.h"

/* How a point looks: by what it is made of. */
enum fr_plot_mark { FR_PLOT_PREFILL, FR_PLOT_DECODE, FR_PLOT_ATTENTION, FR_PLOT_OTHER, FR_PLOT_MARKS };

#define FR_PLOT_POINTS 96
#define FR_PLOT_ROOFS 8
struct fr_plot_point {
	char name[64];
	enum fr_plot_mark mark;
	double intensity, rate; /* operations per byte; operations per second */
	double share;		/* of its peak, or of reading where that is its limit; 0: not known */
};
struct fr_plot {
	char title[128], note[512];
	const char *mark_name[FR_PLOT_MARKS]; /* static; NULL: there are none of these */
	double read;			      /* bytes per second; 0: no such roof */
	struct {
		const char *name; /* static */
		double rate;
	} roof[FR_PLOT_ROOFS];
	int n_roofs;
	struct fr_plot_point at[FR_PLOT_POINTS];
	int n;
	FILE *file; /* fr_plot_new's */
	char *path, *temp;
};

/* p may be NULL here, and nothing is done. The best of what is given for a roof of that name counts. */
void fr_plot_roof(struct fr_plot *p, const char *name, double rate);
void fr_plot_read(struct fr_plot *p, double rate);
/* Left out when there is no room, or nothing to plot: no operations, no bytes, no time. */
void fr_plot_add(struct fr_plot *p, enum fr_plot_mark mark, const char *name, double operations, double bytes,
		 double seconds, double share);
/* All of it to out: one SVG document, for light and dark, with no font, script or file of elsewhere. */
void fr_plot_print(const struct fr_plot *p, FILE *out);

/* path NULL: *out is NULL, and nothing is plotted. Else a plot that goes to path, which is found writable now, before
 * anything is measured: under another name until fr_plot_end. */
int fr_plot_new(const char *path, struct fr_plot **out, struct fr_error *err);
/* Writes the plot and puts it in its place, or with keep 0 leaves nothing behind; frees it. p may be NULL. */
int fr_plot_end(struct fr_plot *p, int keep, struct fr_error *err);

#endif
