//! Many pictures through the language model's slots: resized ahead on all cores, prompts of one length read together.

use anyhow::{Context, Result};
use image::RgbImage;

use super::Network;
use super::image_processor::Canvas;
use super::prompt::PromptIds;
use super::slots::{Slots, places};
use crate::images::in_order_ahead;
use crate::models::captioners::generation::{GenerationOptions, READ_TOGETHER, generate_in_slots};
use crate::runtime::free_memory;

/// Texts that run at once, at most: more bring nothing, as each step reads what each text remembers.
const MOST_SLOTS: usize = 128;
/// Slots come in multiples of this, so that a little more or less of free memory changes nothing.
const SLOT_STEP: usize = 16;

/// What is asked of each of some pictures.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub prompt: &'a PromptIds,
    /// Stands for the picture's tokens in the ids.
    pub image_token_id: i64,
    pub pad: i64,
    /// New tokens of each answer at most, at least one.
    pub longest: &'a [usize],
}

impl Network {
    /// New token ids for each picture, the same as [`Network::embed`] and [`Network::generate`] give, in as many slots as
    /// `slots` says or memory has room for. None where the options, or texts near the end of what the model knows, need
    /// whole batches.
    pub fn answer(
        &self,
        pictures: &[RgbImage],
        question: Question,
        options: &GenerationOptions,
        slots: Option<usize>,
    ) -> Result<Option<Vec<Vec<i64>>>> {
        let config = &self.config.decoder;
        let limit = config.rope.original_max_position_embeddings;
        let order = self.order(pictures, question.prompt)?;
        let new = |at: usize| question.longest[at] as i64;
        let may_switch = order.iter().any(|(length, at)| *length <= limit && length + new(*at) > limit);
        let new_tokens = question.longest.iter().copied().max().unwrap_or(0);
        let longest = order.first().map_or(0, |(length, _)| length + new_tokens as i64);
        let is_known = places(longest) <= config.max_position_embeddings;
        if !options.is_plain_greedy() || question.longest.contains(&0) || may_switch || !is_known {
            return Ok(None);
        }
        let lengths: Vec<i64> = order.iter().map(|(length, _)| *length).collect();
        let most: Vec<usize> = order.iter().map(|(_, at)| question.longest[*at]).collect();
        let ordered: Vec<&RgbImage> = order.iter().map(|(_, at)| &pictures[*at]).collect();
        let slots = slots.unwrap_or_else(|| self.slots(pictures.len(), places(longest)));
        let (device, processor) = (self.decoder.device, &self.processor);
        let texts = in_order_ahead(
            &ordered,
            2 * READ_TOGETHER,
            |picture| processor.canvas(picture).map(|canvas| canvas.delivered(device)),
            |canvas| {
                let mut prompts = |count: usize| {
                    let next = |_| canvas().context("no picture was made ready")??.take();
                    let canvases: Vec<Canvas> = (0..count).map(next).collect::<Result<_>>()?;
                    Ok(self.tokens(&processor.cut(&canvases, device)?, question.prompt, question.pad).0)
                };
                let mut model = Slots::new(&self.decoder, &self.spare, &mut prompts, &lengths, slots, new_tokens)?;
                generate_in_slots(&mut model, &most, slots, device, options)
            },
        )?;
        let mut answers = vec![Vec::new(); texts.len()];
        order.iter().zip(texts).for_each(|((_, at), text)| answers[*at] = text);
        Ok(Some(answers))
    }

    /// The tokens of each picture's prompt and its place among the pictures, in the order in which they are read: the longest
    /// prompts first, so that equal ones are together.
    fn order(&self, pictures: &[RgbImage], prompt: &PromptIds) -> Result<Vec<(i64, usize)>> {
        let words = (prompt.before.len() + prompt.after.len()) as i64;
        let length = |(at, picture): (usize, &RgbImage)| {
            Ok((words + self.processor.shape(picture.width(), picture.height())?.tokens(), at))
        };
        let mut order: Vec<(i64, usize)> = pictures.iter().enumerate().map(length).collect::<Result<_>>()?;
        order.sort_by_key(|(length, at)| (-length, *at));
        Ok(order)
    }

    /// How many texts run at once: half of what is free is for their keys and values, the rest for reading prompts.
    fn slots(&self, pictures: usize, places: i64) -> usize {
        let wanted = pictures.min(MOST_SLOTS);
        // What is kept of an earlier call is as good as free, unless it is taken over.
        drop(self.spare.borrow_mut().take_if(|spare| spare.rows() != wanted as i64));
        if self.spare.borrow().is_some() {
            return wanted;
        }
        let config = &self.config.decoder;
        let numbers = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * places;
        let bytes = numbers as u64 * self.decoder.kind.elt_size_in_bytes() as u64;
        let room = free_memory(self.decoder.device).map_or(wanted, |free| (free / 2 / bytes.max(1)) as usize);
        let room = if room > SLOT_STEP { room / SLOT_STEP * SLOT_STEP } else { room.max(1) };
        wanted.min(room)
    }
}
