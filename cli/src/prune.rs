//! `emprune prune` and `emprune inspect`: the same work; the one writes the weights and the other does not.

use crate::Usage;
use crate::args::{FileArgs, JobArgs, piece_bytes};
use crate::backend::{self, Workers};
use crate::beside::Beside;
use crate::checkpoint::Checkpoint;
use crate::destination::{Destination, Paths, regions};
use crate::events;
use crate::interrupt;
use crate::job::{Contests, Job, about};
use crate::journal::{Asked, Journal};
use crate::masks;
use crate::norms::Norms;
use crate::output::NewDirectory;
use crate::plot::Pictures;
use crate::recipe::Recipe;
use crate::report::{
    FileReport, FilesReport, Report, RuleReport, SCHEMA, SettingsReport, TensorReport, Totals, sparsity, write_json,
};
use crate::safetensors::Model;
use crate::select::{Selection, select};
use crate::selected::{Selected, check_room_of_all};
use crate::settings::{Score, Settings};
use crate::sink::Sink;
use crate::table;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Prune a checkpoint into `output`, or only see what that would do.
pub(crate) fn run(args: &JobArgs, files: &FileArgs, output: Option<&Path>) -> Result<()> {
    let start = Instant::now();
    let question = Question::open(args)?;
    let model = &question.model;
    let paths = Paths {
        weights: output,
        masks: files.masks.as_deref(),
        report: files.report.file.as_deref(),
        plots: files.plot.as_deref(),
        overwrite: files.report.overwrite,
    };
    let others = [&args.norms, &args.norm_map, &args.recipe].into_iter().flatten().cloned();
    paths.check(model, others.chain(question.beside.paths()))?;
    let workers = Workers::open(&args.backend, Some(args.memory))?;
    let selected = question.selected();
    events::tell(
        "started",
        json!({
            "input": args.input.to_string_lossy(),
            "output": output.map(Path::to_string_lossy),
            "tensors": selected.len(),
            "bytes": selected.iter().map(Selected::bytes).sum::<u64>(),
            "backend": workers.backend().to_string(),
        }),
    );
    // Files beside the model are hashed for it.
    let asked = if paths.resumes(model) {
        question.asked_of_shards(paths.masks.is_some(), paths.plots.is_some())?
    } else {
        vec![]
    };
    let mut destination = Destination::create(model, &paths, asked)?;
    let pictures = destination.plots().map(|directory| question.pictures(directory));
    let answer = question.answer(
        &workers,
        &destination.outputs(),
        destination.masks(),
        destination.journal(),
        pictures.as_ref(),
    );
    let drawn = answer.and_then(|report| {
        pictures.as_ref().map_or(Ok(()), |pictures| pictures.finish(&report, &args.input))?;
        Ok(report)
    });
    let report_of_all = drawn.inspect_err(|_| destination.keep_finished())?;
    destination.commit(&report_of_all)?;

    let seconds = start.elapsed().as_secs_f64();
    if files.report.json {
        // As it is made: it may name more structures than there is memory for the text.
        crate::print_with(|out| write_json(out, &report_of_all))?;
    } else {
        crate::print(table::render(&report_of_all, workers.backend(), output, seconds).as_bytes())?;
    }
    // Who is told so has the report.
    events::tell("finished", json!({"seconds": seconds}));
    Ok(())
}

/// What is asked: a checkpoint, and what the options make of it.
pub(crate) struct Question<'a> {
    args: &'a JobArgs,
    pub(crate) model: Checkpoint,
    norms: Option<Norms>,
    beside: Beside,
    recipe: Recipe,
    selection: Selection,
    /// Of the files beside the model, if they were hashed: the norms' and all others', in their order.
    hashes: OnceCell<(Option<String>, Vec<String>)>,
}

impl<'a> Question<'a> {
    /// Open the inputs, choose the tensors, and say what people should know of it.
    pub(crate) fn open(args: &'a JobArgs) -> Result<Self> {
        args.check()?;
        let recipe = args.recipe.as_deref().map(|path| Recipe::read(path, &args.settings)).transpose()?;
        let recipe = recipe.unwrap_or_default();
        check_norms(args, &recipe)?;
        interrupt::catch()?;
        let model = Checkpoint::open(&args.input)?;
        let norms = args.norms.as_deref().map(|path| Norms::open(path, args.norm_map.as_deref())).transpose()?;
        if let Some(warning) = norms.as_ref().and_then(|norms| norms.idle(&model.tensors)) {
            events::warning(&warning);
        }
        let beside = Beside::open(all_settings(args, &recipe))?;
        let selection = select(&model.tensors, &args.targets, &args.ignore, &recipe)?;
        for warning in &selection.warnings {
            events::warning(warning);
        }
        for note in model.directory.iter().flat_map(|directory| &directory.notes) {
            events::note(note);
        }
        let question = Self { args, model, norms, beside, recipe, selection, hashes: OnceCell::new() };
        for one in question.selected() {
            // First, for it names the tensor: all else asks for the rule too.
            one.settings
                .rule(&one.info.shape)
                .map_err(|wrong| Usage(format!("tensor {:?}: {wrong}", one.info.name)))?;
            let norms = one.norms_len(question.norms.as_ref())?;
            question.beside.check(one.info, one.settings)?;
            one.check_room(norms, args.memory)?;
        }
        check_room_of_all(&question.selected(), args.memory)?;
        Ok(question)
    }

    /// Nobody has written to any input since it was opened.
    fn check_unchanged(&self) -> Result<()> {
        self.model.shards.iter().chain(self.beside.models()).try_for_each(Model::check_unchanged)?;
        self.norms.as_ref().map_or(Ok(()), Norms::check_unchanged)
    }

    /// What is asked about a tensor to which this rule applies.
    fn settings(&self, rule: Option<usize>) -> &Settings {
        rule.map_or(&self.args.settings, |at| &self.recipe.rules[at].settings)
    }

    fn selected(&self) -> Vec<Selected<'_>> {
        let Selection { skipped, rules, .. } = &self.selection;
        let verdicts = self.model.tensors.iter().zip(skipped).zip(rules).filter(|((_, skipped), _)| skipped.is_none());
        let selected = verdicts.filter_map(|((info, _), &rule)| {
            Some(Selected { info, dtype: info.prunable_dtype()?, rule, settings: self.settings(rule) })
        });
        selected.collect()
    }

    /// What is asked of each shard.
    fn asked_of_shards(&self, masks: bool, plots: bool) -> Result<Vec<Asked>> {
        let norms = (self.norms.as_ref().map(Norms::hash).transpose()?, self.beside.hashes()?);
        let norms = self.hashes.get_or_init(|| norms);
        let selected = self.selected();
        let infos: Vec<_> = selected.iter().map(|one| one.info).collect();
        let masks = if masks { masks::layout(&infos).context("the masks file")?.1 } else { vec![] };
        let of_shard = |number: usize| {
            let mut text = format!("{} {norms:?} {plots}", env!("CARGO_PKG_VERSION"));
            for Selected { info, settings, rule, .. } in selected.iter().filter(|one| one.info.shard == number) {
                text += &format!("\n{:?} {settings:?} {rule:?}", info.name);
            }
            let regions = regions(&self.model.shards[number], number, infos.iter().copied());
            let masks = infos.iter().zip(&masks).filter(|(info, _)| info.shard == number);
            Asked {
                settings: blake3::hash(text.as_bytes()).to_string(),
                regions: regions.into_iter().map(|(bytes, _)| bytes).collect(),
                masks: masks.map(|(_, mask)| mask.clone()).collect(),
            }
        };
        Ok((0..self.model.shards.len()).map(of_shard).collect())
    }

    /// Who draws what comes of it into a directory.
    fn pictures<'q>(&'q self, directory: &'q NewDirectory) -> Pictures<'q> {
        let rules = (0..self.recipe.rules.len()).map(Some).chain([None]);
        let asked = rules.map(|rule| (rule, self.settings_report(rule))).collect();
        let selected = self.selected();
        Pictures::new(directory, asked, selected.iter().map(|one| one.info.name.as_str()))
    }

    /// Decide, and send every byte of every shard to its output, if there are outputs.
    pub(crate) fn answer(
        &self,
        workers: &Workers,
        outputs: &[Sink<'_>],
        masks: Option<Sink<'_>>,
        journal: Option<&Journal>,
        plots: Option<&Pictures<'_>>,
    ) -> Result<Report> {
        let (shards, norms, memory) = (self.model.shards.as_slice(), self.norms.as_ref(), self.args.memory);
        let piece_bytes = piece_bytes(memory);
        let beside = &self.beside;
        let job = Job { shards, norms, beside, workers, outputs, masks, memory, piece_bytes, journal, plots };
        let done = job.prune(&self.selected());
        // An input that somebody writes to spoils any answer, and explains any failure.
        let (pruned, contests) = match (done, self.check_unchanged()) {
            (done, Ok(())) => done?,
            (Ok(_), Err(changed)) => return Err(changed),
            (Err(error), Err(changed)) => return Err(error.context(format!("{changed:#}"))),
        };
        let mut pruned = pruned.into_iter();
        let verdicts = self.model.tensors.iter().zip(&self.selection.skipped).zip(&self.selection.rules);
        let tensors = verdicts.filter_map(|((info, skipped), rule)| {
            let tensor = match skipped {
                Some(_) => TensorReport { skipped: skipped.clone(), ..about(info) },
                None => pruned.next()?,
            };
            Some(TensorReport { rule: rule.map(|at| at + 1), ..tensor })
        });
        Ok(self.report(workers, tensors.collect(), contests))
    }

    /// What was asked about the tensors to which this rule applies.
    fn settings_report(&self, rule: Option<usize>) -> SettingsReport {
        let report = self.settings(rule).report();
        let with_own =
            |one: &Selected<'_>| one.rule == rule && self.beside.has_structure_scores(one.info, one.settings);
        // No norm made those scores.
        let norm = report.norm.clone().filter(|_| !self.selected().iter().any(with_own));
        SettingsReport { norm, ..report }
    }

    /// What was read beside the model, with the hashes that are known by now.
    fn files_report(&self) -> FilesReport {
        let (of_norms, of_others) =
            self.hashes.get().map_or((None, &[][..]), |(norms, others)| (norms.as_ref(), others));
        let file = |path: &Path, blake3: Option<&str>| FileReport {
            path: path.to_string_lossy().into_owned(),
            blake3: blake3.map(str::to_owned),
        };
        let given = |path: &Option<PathBuf>| path.as_ref().map(|path| file(path, None));
        // Each once, however many rules name it, and in the order that they were hashed in.
        let named = |of: fn(&Settings) -> Option<&Path>| {
            let paths: BTreeSet<&Path> = all_settings(self.args, &self.recipe).filter_map(of).collect();
            let mut files = Vec::new();
            for (at, path) in self.beside.paths().enumerate().filter(|(_, path)| paths.contains(&**path)) {
                files.push(file(&path, of_others.get(at).map(String::as_str)));
            }
            files
        };
        // That of the norms is followed by the names of the map.
        let of_norms = of_norms.and_then(|text| text.split(' ').next());
        FilesReport {
            scores: named(Settings::scores),
            groups: named(Settings::groups),
            norms: self.args.norms.as_ref().map(|path| file(path, of_norms)),
            norm_map: given(&self.args.norm_map),
            recipe: given(&self.args.recipe),
        }
    }

    fn report(&self, workers: &Workers, tensors: Vec<TensorReport>, mut contests: Contests) -> Report {
        let mut totals = Totals::default();
        for tensor in tensors.iter().filter(|tensor| tensor.skipped.is_none()) {
            totals.len += tensor.len;
            totals.kept += tensor.kept.unwrap_or_default();
            totals.zeros_before += tensor.zeros_before.unwrap_or_default();
            totals.zeros_after += tensor.zeros_after.unwrap_or_default();
        }
        totals.sparsity = sparsity(totals.kept, totals.len);
        let rules = self.recipe.rules.iter().enumerate().map(|(at, rule)| RuleReport {
            pattern: rule.patterns.clone(),
            skip: rule.skip,
            settings: self.settings_report(Some(at)),
            tensors: self.selection.rules.iter().filter(|rule| **rule == Some(at)).count(),
            global: contests.remove(&Some(at)),
        });
        let recipe = self.args.recipe.as_ref().map(|_| rules.collect());
        Report {
            schema: SCHEMA,
            emprune_version: env!("CARGO_PKG_VERSION"),
            input: self.args.input.to_string_lossy().into_owned(),
            targets: self.args.targets.clone(),
            ignore: self.args.ignore.clone(),
            files: self.files_report(),
            backend: workers.backend().name(),
            adapter: workers.backend().adapter().map(str::to_owned),
            variant: backend::variant(workers.backend()),
            fallback: workers.fallback().cloned(),
            settings: self.settings_report(None),
            recipe,
            totals,
            global: contests.remove(&None),
            tensors,
        }
    }
}

/// What is asked about any tensor.
fn all_settings<'a>(args: &'a JobArgs, recipe: &'a Recipe) -> impl Iterator<Item = &'a Settings> {
    let settings = recipe.rules.iter().filter(|rule| rule.skip != Some(true)).map(|rule| &rule.settings);
    settings.chain([&args.settings])
}

/// Norms go with the score that needs them, and with no other.
fn check_norms(args: &JobArgs, recipe: &Recipe) -> Result<()> {
    let needed = all_settings(args, recipe).any(|settings| settings.score == Score::Wanda);
    ensure!(!needed || args.norms.is_some(), Usage("--score wanda needs --norms FILE".into()));
    ensure!(needed || args.norms.is_none(), Usage("--norms is for --score wanda".into()));
    Ok(())
}
