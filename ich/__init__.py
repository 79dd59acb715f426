"""Study workbook for segmentation of spontaneous intracerebral hemorrhage on head CT.

Modules, each importing only from those before it:

- published: results of published studies
- tables: schema of every table
- grid: where voxels lie, what a slice weighs
- hounsfield: plausible values
- tilt: gantry tilt from a header
- nifti: NIfTI in and out
- series: DICOM files to series
- dicom: a DICOM series to a scan
- scan: one CT in, one mask out
- anatomy: head template of the embedded cohort
- phantom: simulated cases
- cohort: sources to a checked cohort with splits
- components: connected parts of a mask
- hull: diameters of an outline
- abc2: ABC/2 and its variants
- overlap: agreement of two masks
- measure: files to tables
- agreement: agreement of two methods
- model: the network and its weights
- train: the training loop
- predict: masks on the native grid
- figures: tables to figures
- widgets: slice viewer
- html: notebooks to HTML
- case: one scan to a report
- study: the run of a study
- cli: the command line
"""
